"""The page of one model, as a folder of files that need no server."""

from __future__ import annotations

import datetime
import functools
import json
import shutil
from pathlib import Path
from typing import Any

from volvox.catalogue.facts import Published, size
from volvox.catalogue.metadata import complete
from volvox.errors import InvalidInput

PLOTS = {
    "confusion.png": "Confusion matrix: which class is taken for which",
    "reliability.png": "Reliability: how often a stated probability is right",
    "mistakes.png": "The worst mistakes, with what the model said and what is true",
}
_HERE = Path(__file__).parent
_METRICS = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "top5_accuracy": "Top-5 accuracy",
    "calibration_error": "Calibration error",
}


def write_page(
    published: Published, folder: Path, *, report: Path | None, sbom: Path | None, today: datetime.date
) -> dict[str, Any]:
    """Write the files of one entry into `folder` (made), and return what the catalogue lists of it.

    `index.html`, `model-card.md`, `metadata.yaml`, `metadata.json`, `entry.json` (what is returned), the plots of the
    evaluation, and `sbom.json` where there is one.

    Args:
        published: The entry's facts.
        folder: Where the files go.
        report: Folder with the plots.
        sbom: The image's bill of materials.
        today: The day of publication.
    """
    import yaml

    folder.mkdir(parents=True)
    metadata = _metadata(published, today)
    plots = [name for name in PLOTS if report is not None and (report / name).is_file()]
    for name in plots:
        shutil.copyfile(report / name, folder / name)  # pyright: ignore[reportOptionalOperand] - none without a report
    if sbom is not None:
        shutil.copyfile(sbom, folder / "sbom.json")
    entry = {"name": published.name, "path": f"{published.name}/", "metadata": metadata}
    context = _context(published, metadata) | {"plots": {name: PLOTS[name] for name in plots}, "sbom": sbom is not None}
    written = {
        "metadata.yaml": yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=120),
        "metadata.json": json.dumps(metadata, indent=1, ensure_ascii=False),
        "entry.json": json.dumps(entry, indent=1, ensure_ascii=False),
        "model-card.md": templates().get_template("model-card.md.jinja").render(context),
        "index.html": templates().get_template("model.html").render(context),
    }
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    return entry


@functools.cache
def templates() -> Any:
    """The templates of the catalogue; HTML ones escape every value."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_HERE / "templates", _HERE.parent / "web" / "templates"]),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters.update(
        size=size, percent=_percent, markdown=_markdown, day=lambda text: str(text)[:10], line=_line, url=_url
    )
    return environment


def _metadata(published: Published, today: datetime.date) -> dict[str, Any]:
    try:
        stated, reason = published.module.metadata(), ""
    except InvalidInput as error:
        stated, reason = {}, str(error)
    except (OSError, UnicodeDecodeError) as error:
        stated, reason = {}, f"the metadata file of module {published.module.name!r} cannot be read: {error}"
    return complete(published.name, stated, published.as_metadata(), reason=reason, today=today)


def _context(published: Published, metadata: dict[str, Any]) -> dict[str, Any]:
    metrics = published.evaluation.metrics
    named = {label: metrics[key] for key, label in _METRICS.items() if key in metrics}
    return {
        "css": "../volvox.css",
        "catalogue": "../",
        "name": published.name,
        "metadata": metadata,
        "published": published,
        "version": published.version,
        "verdict": published.version.verdict,
        "model": published.model,
        "evaluation": published.evaluation,
        "dataset": published.dataset,
        "image": published.image,
        "module": published.module,
        "argument": published.argument,
        "headline": named,
        "other_metrics": {key: value for key, value in sorted(metrics.items()) if key not in _METRICS},
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _markdown(text: object) -> Any:
    """Markdown as HTML that runs nothing: raw HTML is shown as text, and images are not fetched."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_block", "html_inline"])
    return Markup(parser.render(str(text or "")))  # noqa: S704 - the parser escaped all that it did not write itself


def _line(value: object) -> str:
    """A value on one line of Markdown, with nothing in it that Markdown or HTML would read."""
    plain = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in r"\`*_[]<>|#" else sign for sign in plain)


def _url(value: object) -> str:
    """`value` if it is the address of a web page, else empty: nothing else becomes a link."""
    text = str(value or "")
    return text if text.startswith(("https://", "http://")) else ""

"""Write a Dockerfile from its template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def rendered(template: Path, **values: Any) -> str:
    """The text of the Dockerfile that `template` gives with `values`.

    Beside Jinja's own filters a template has `label` (a label's value in its quotes) and `tojson` (the exec form).
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=False,  # noqa: S701 - a Dockerfile is not HTML; its own quoting is `_label`
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["label"] = _label
    environment.filters["tojson"] = json.dumps
    return environment.get_template(template.name).render(values)


def _label(value: str) -> str:
    """A label's value in double quotes, with nothing in it that a Dockerfile would expand or end the line at."""
    plain = " ".join(value.split())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'

"""Show a model version in the catalogue."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.reuse import once
from volvox import progress
from volvox.catalogue import site
from volvox.catalogue.facts import Published
from volvox.catalogue.page import write_page
from volvox.identity import digest_of, file_digest, stage_key
from volvox.modules import discovery
from volvox.modules.calling import describe
from volvox.records import CatalogueEntry, Dataset, Evaluation, Image, ModelVersion, TrainedModel
from volvox.serving.smoke import file_argument
from volvox.settings import Home
from volvox.store import Store


@task(name="publish_model", cache_policy=NO_CACHE)
@progress.working
async def publish_model(
    version: ModelVersion,
    model: TrainedModel,
    evaluation: Evaluation,
    dataset: Dataset,
    image: Image,
    *,
    store: Store,
    home: Home,
) -> CatalogueEntry:
    """Publish `version` in the catalogue of `home`, or find that it is there.

    Metadata that its schema refuses is published as a placeholder that says why.

    Args:
        version: The registered version.
        model: Its training.
        evaluation: How good it is on held-out data.
        dataset: What it learned from.
        image: The serving image, or the context that waits for an engine.
        store: Where the page's files are kept.
        home: Its folder `catalogue/` is the static site.

    Raises:
        InvalidInput: If the catalogue's own files have the model's name.
    """
    module = discovery.find(version.module)
    stated = file_digest(module.metadata_file) if module.metadata_file else ""
    inputs = [record.digest for record in (version, model, evaluation, dataset, image)]
    looks = await asyncio.to_thread(site.looks)
    key = stage_key("publication", code=digest_of([module.code, stated, looks]), inputs=inputs)

    async def publish() -> CatalogueEntry:
        described = await describe(module, home)
        published = Published(
            version, model, evaluation, dataset, image, module,
            argument=file_argument(described.get("predict", [])) or "", licence=_licence(module),
        )  # fmt: skip
        return await asyncio.to_thread(_write, published, store)

    entry = await once(store, "publication", key, CatalogueEntry, publish)
    await asyncio.to_thread(_show, entry, site.Site(home.root / "catalogue"), store)
    return entry


def _write(published: Published, store: Store) -> CatalogueEntry:
    with tempfile.TemporaryDirectory(prefix="volvox-page-") as place:
        folder = Path(place, "page")
        report, sbom = published.evaluation.report_tree, published.image.sbom_object
        write_page(
            published,
            folder,
            report=store.tree(report) if report else None,
            sbom=store.path(sbom) if sbom else None,
            today=datetime.datetime.now(datetime.UTC).date(),
        )
        return CatalogueEntry(
            name=published.name,
            version=published.version.digest,
            metadata_object=store.put_file(folder / "metadata.yaml"),
            page_tree=store.put_tree(folder),
            path=f"/catalogue/{published.name}/",
        )


def _show(entry: CatalogueEntry, catalogue: site.Site, store: Store) -> None:
    """The record may be older than the catalogue on this disk: the entry is shown unless it is."""
    if not catalogue.shows(entry.name, entry.page_tree):
        catalogue.publish(entry.name, entry.page_tree, store.tree(entry.page_tree))


def _licence(module: discovery.Module) -> str:
    try:
        return str(metadata(module.distribution).json.get("license_expression", ""))
    except PackageNotFoundError:
        return ""

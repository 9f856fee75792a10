"""The publication stage."""

from __future__ import annotations

from blocks.store import ObjectStore
from flows.stage import stage
from tasks.publication import publish_model
from volvox.records import CatalogueEntry, Dataset, Evaluation, Image, ModelVersion, TrainedModel
from volvox.settings import Home


@stage("publication", "publish-{version.name}")
async def publication(
    version: ModelVersion,
    model: TrainedModel,
    evaluation: Evaluation,
    dataset: Dataset,
    image: Image,
    *,
    store: ObjectStore | None = None,
) -> CatalogueEntry:
    """Publish `version` in the static catalogue of this installation.

    Args:
        version: The registered version.
        model: Its training.
        evaluation: How good it is on held-out data.
        dataset: What it learned from.
        image: The serving image, or the context that waits for an engine.
        store: Where the page's files are kept.

    Raises:
        InvalidInput: If the catalogue's own files have the model's name.
    """
    return await publish_model(
        version, model, evaluation, dataset, image, store=(store or ObjectStore.local()).open(), home=Home.current()
    )

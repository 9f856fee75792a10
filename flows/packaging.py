"""The packaging stage."""

from __future__ import annotations

from blocks.engine import ContainerEngine
from blocks.store import ObjectStore
from flows.stage import stage
from tasks.packaging import package_model
from volvox.records import Dataset, Evaluation, Image, ModelVersion


@stage("packaging", "package-{version.name}")
async def packaging(
    version: ModelVersion,
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    build: bool = True,
    store: ObjectStore | None = None,
    engine: ContainerEngine | None = None,
) -> Image:
    """Build the image that serves `version` and prove that it answers; where that cannot be, keep its build context.

    Args:
        version: The registered version that the image carries.
        evaluation: What the image must answer for a held-out image.
        dataset: Where that image comes from.
        build: Whether to build at all.
        store: Where the build context and the bill of materials are kept.
        engine: The container engine, its base image and the registry.

    Raises:
        InvalidInput: If the image cannot be built.
        Unavailable: If the engine or the registry stops answering.
        VolvoxError: If the image does not answer as it should; it gets no name then.
    """
    return await package_model(
        version, evaluation, dataset,
        store=(store or ObjectStore.local()).open(), engine=engine or ContainerEngine.local(), build=build,
    )  # fmt: skip

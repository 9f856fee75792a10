"""The training image as a flow, which is no stage of a cycle: it is built before stages run elsewhere."""

from __future__ import annotations

from prefect import flow

from blocks.engine import ContainerEngine
from blocks.store import ObjectStore
from tasks.images import build_training_image
from volvox.packaging.training_images import TrainingImage
from volvox.settings import Home


@flow(name="training-image", flow_run_name="training-image-{module}", persist_result=False)
async def training_image(
    module: str = "image_classifier",
    *,
    gpu: bool = False,
    push: bool = False,
    store: ObjectStore | None = None,
    engine: ContainerEngine | None = None,
) -> TrainingImage:
    """Build the image in which the stages run on a Docker, Kubernetes or ECS pool, or find that it is there.

    Args:
        module: Entry-point name of the model module that is in it.
        gpu: Whether its torch is the build for NVIDIA GPUs.
        push: Whether to send it to the registry of `engine`.
        store: Where its record is kept.
        engine: The container engine; default: this machine's.

    Raises:
        InvalidInput: If the image cannot be built, or there is no registry to push to.
        UnknownModule: If no such module is installed.
        Unavailable: If the engine, a base image, an index or the registry does not answer.
        VolvoxError: If a container of the image cannot train.
    """
    used = engine or ContainerEngine.local()
    return await build_training_image(
        module, store=(store or ObjectStore.local()).open(), home=Home.current(),
        engine=used.model_copy(update={"gpu": gpu}) if gpu else used, push=push,
    )  # fmt: skip

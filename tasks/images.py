"""Make the image in which stages run on a Docker, Kubernetes or ECS pool."""

from __future__ import annotations

import threading

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.engine import ContainerEngine
from tasks.retries import is_transient
from tasks.reuse import locked
from volvox import progress
from volvox.cancelling import in_thread
from volvox.errors import InvalidInput, Unavailable
from volvox.modules import discovery
from volvox.packaging.training_context import TrainingRecipe
from volvox.packaging.training_images import RECORDS, TrainingImage, TrainingPackaging
from volvox.settings import Home
from volvox.store import Store


@task(
    name="build_training_image", retries=1, retry_delay_seconds=5, retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
)  # fmt: skip
@progress.working
async def build_training_image(
    module: str, *, store: Store, home: Home, engine: ContainerEngine, push: bool = False
) -> TrainingImage:
    """Build the training image of `module`, prove that a container of it can train, name it; or find that it was done.

    Args:
        module: Entry-point name of the model module that is in it.
        store: Where its record is kept, by which a worker finds it.
        home: Its cache keeps the wheel of torch.
        engine: The container engine, its base images, the registry and the index of torch.
        push: Whether to send it to the registry.

    Raises:
        InvalidInput: If a dependency is not installed here, a step of a build fails, or no registry is set to push to.
        UnknownModule: If no such module is installed.
        Unavailable: If the engine, a base image, an index or the registry does not answer (tried again once).
        VolvoxError: If a container of the image cannot train; the image gets no name then.
    """
    found, opened = discovery.find(module), engine.open()
    if push and not engine.registry:
        raise InvalidInput("there is no registry to push to; set VOLVOX_REGISTRY, e.g. registry.example.org/team")
    if why_not := opened.why_not():
        raise Unavailable(f"no training image can be built: {why_not}; start an engine, or name one with DOCKER_HOST")
    recipe = TrainingRecipe(found, engine.base, engine.gpu, engine.torch_index)
    registry = engine.registry if push else ""

    def work(cancelled: threading.Event) -> TrainingImage:
        packaging = TrainingPackaging(recipe, opened, store, home.cache / "wheels", cancelled)
        if (kept := packaging.current(registry)) is not None:
            progress.reused()
            return kept
        return packaging.build(registry)

    async with locked(store, RECORDS, recipe.variant):
        return await in_thread(work)

"""The training image, as every test that runs a stage in a container needs it.

On a machine that never built it, this takes minutes; the engine keeps what it built, so it takes a second from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blocks.engine import ContainerEngine
from tasks.images import build_training_image
from tests.volvox.packaging import standin
from volvox.packaging.training_images import TrainingImage
from volvox.settings import Home
from volvox.store import Store

MODULE = "image_classifier"


@contextlib.contextmanager
def built(place: Path, module: str = MODULE) -> Iterator[TrainingImage]:
    """Build the training image of `module`, or find it; the engine is up while the block runs.

    Args:
        place: Folder for the store and for what is downloaded.
        module: Whose image.
    """
    with standin.docker() as environment:
        engine = ContainerEngine(
            host="unix:///var/run/docker.sock", base_image=environment["ENGINE_BASE_IMAGE"], registry=""
        )
        with _in_turns():
            image = build(Store.open(str(place / "store")), Home(place / "home"), engine, module)
        yield image


def build(store: Store, home: Home, engine: ContainerEngine, module: str = MODULE, push: bool = False) -> TrainingImage:
    """The task itself, without a flow run around it."""
    return asyncio.run(build_training_image.fn(module, store=store, home=home, engine=engine, push=push))


@contextlib.contextmanager
def _in_turns() -> Iterator[None]:
    """Several processes run tests; the first one builds, the others find."""
    with Path(tempfile.gettempdir(), "volvox-tests-training-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""From a recipe to a training image that imported what it will need, and to the record that a worker finds it by."""

from __future__ import annotations

import io
import tarfile
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.errors import VolvoxError
from volvox.packaging.engine import Engine
from volvox.packaging.training_context import Dependencies, TrainingRecipe, variant
from volvox.records import Record
from volvox.store import Store

RECORDS = "training-image"
_ANYBODY = "4711:4711"  # a user that no image knows
_CHECK_SECONDS = 180.0


class TrainingImage(Record):
    """An image in which the stages of a cycle run on a Docker, Kubernetes or ECS pool.

    Attributes:
        name: Repository and tag, e.g. `volvox/training-image-classifier:1f6c0a9be24d`.
        module: Entry-point name of the model module inside.
        code: Digest of the code inside, the module's too; its first twelve digits are the tag.
        gpu: Whether its torch is the build for NVIDIA GPUs.
        recipe: Digest of all that it was made of.
        context_object: The build context of its code as a tar.
        dependencies: Name of the image that it stands on.
        image_id: The engine's id of it (`sha256:...`).
        pushed: Reference with digest in the registry, or empty.
        bytes: Size as the engine reports it.
        layers: Size of each layer with what made it, newest first.
        seconds: How long the build took, the check and the push too.
    """

    name: str
    module: str
    code: str
    gpu: bool = False
    recipe: str
    context_object: str
    dependencies: str
    image_id: str
    pushed: str = ""
    bytes: int = 0
    layers: tuple[tuple[str, int], ...] = ()
    seconds: float = 0.0

    @property
    def reference(self) -> str:
        """What an engine runs: by digest where it is in a registry, else by the name that the building engine knows."""
        return self.pushed or self.name

    def identity(self) -> Any:
        return ["training-image", self.recipe, self.context_object]


def newest(store: Store, module: str, *, gpu: bool = False) -> TrainingImage | None:
    """The training image of `module` that was built last with `store`, or None."""
    try:
        return TrainingImage.model_validate(store.record(RECORDS, variant(module, gpu=gpu)))
    except ValidationError:
        return None


@dataclass(frozen=True)
class TrainingPackaging:
    """Makes the image of one recipe.

    Attributes:
        recipe: What is in the image.
        engine: What builds and runs it.
        store: Where the record and the build context are kept.
        wheels: Folder that keeps downloaded wheels.
        cancelled: Set when nobody waits for the image any more.
    """

    recipe: TrainingRecipe
    engine: Engine
    store: Store
    wheels: Path
    cancelled: threading.Event

    def current(self, registry: str = "") -> TrainingImage | None:
        """The newest image if it is of this recipe, on the engine, and in the registry where one is given."""
        found = newest(self.store, self.recipe.module.name, gpu=self.recipe.gpu)
        if found is None or found.recipe != self.recipe.digest or not self.engine.has(found.image_id):
            return None
        return found if not registry or found.pushed.startswith(f"{registry}/{self.recipe.repository}@") else None

    def build(self, registry: str = "") -> TrainingImage:
        """Build the image or find it by its context, check it, name it, push it and keep its record.

        Args:
            registry: Host and path that it is pushed to; empty: nowhere.

        Raises:
            Cancelled: If it was.
            InvalidInput: If a context cannot be made, or a step of a build fails.
            Unavailable: If the engine, the base image, an index or the registry does not answer.
            VolvoxError: If a container of the image cannot import what a job needs; it then has no name and is removed.
        """
        recipe, engine, began = self.recipe, self.engine, time.monotonic()
        self._stand_on(recipe.dependencies)
        with tempfile.TemporaryDirectory(prefix="volvox-context-") as place:
            context = self.store.put_tree(recipe.write(Path(place, "context")))
        image = engine.find(context)
        if image:
            progress.note("an image of this context is here already")
        else:
            image = engine.build(self.store.path(context), context, self.cancelled)
            self._check(image)
        engine.name(image, recipe.repository, recipe.tags)
        told, name = engine.image(image), f"{recipe.repository}:{recipe.tags[0]}"
        if registry:
            progress.note(f"pushing to {registry}")
        made = TrainingImage(
            name=name,
            module=recipe.module.name,
            code=recipe.code,
            gpu=recipe.gpu,
            recipe=recipe.digest,
            context_object=context,
            dependencies=recipe.dependencies.name,
            image_id=told["Id"],
            pushed=engine.push(image, f"{registry}/{name}") if registry else "",
            bytes=told["Size"],
            layers=engine.layers(image),
            seconds=time.monotonic() - began,
        )
        self.store.put_record(RECORDS, recipe.variant, made.model_dump(mode="json"))
        return made

    # -- inside --------------------------------------------------------------------------------------------------

    def _stand_on(self, dependencies: Dependencies) -> None:
        """Have the image of the dependencies: found by its digest, or built of a context that is too large to keep."""
        image = self.engine.find(dependencies.digest)
        if not image:
            progress.note("building the image of the dependencies, which takes minutes; a change of code does not")
            with tempfile.TemporaryDirectory(prefix="volvox-context-") as place:
                context = _tar(dependencies.context(self.wheels, self.cancelled), Path(place, "context.tar"))
                image = self.engine.build(context, dependencies.digest, self.cancelled)
        repository, _, tag = dependencies.name.rpartition(":")
        self.engine.name(image, repository, (tag,))

    def _check(self, image: str) -> None:
        """Run the image's own check without network, on a read-only disk and as nobody that it knows."""
        progress.note("checking that a container of it can train")
        command = ["python", "-m", "deployments.images.check", self.recipe.module.name]
        try:
            status, said = self.engine.ask(image, command, self.cancelled, user=_ANYBODY, seconds=_CHECK_SECONDS)
            if status:
                raise VolvoxError(f"a container of the training image cannot train; it said: {said[-1000:]}")
        except (VolvoxError, Cancelled):
            self.engine.remove(image)
            raise


def _tar(files: dict[str, Path | bytes], place: Path) -> Path:
    with tarfile.open(place, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644
            if isinstance(content, Path):
                entry.size = content.stat().st_size
                with content.open("rb") as stream:
                    archive.addfile(entry, stream)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return place

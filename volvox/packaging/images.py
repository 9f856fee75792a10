"""From a recipe to an image that answered, or to a build context that waits for an engine."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.errors import VolvoxError
from volvox.packaging.context import Recipe, write_context
from volvox.packaging.engine import Engine
from volvox.packaging.proving import Question, prove
from volvox.packaging.sbom import bill_of_materials, planned_inventory
from volvox.records import Image
from volvox.store import Store


@dataclass(frozen=True)
class Packaging:
    """Makes the image of one recipe.

    Attributes:
        recipe: What is in the image.
        version: Digest of the model version.
        store: Where context and bill of materials are kept.
        cancelled: Set when nobody waits for the image any more.
    """

    recipe: Recipe
    version: str
    store: Store
    cancelled: threading.Event

    @property
    def name(self) -> str:
        """Repository and tag."""
        return f"{self.recipe.repository}:{self.recipe.tag}"

    def keep(self, reason: str) -> Image:
        """Keep the build context, and say why no image was built of it.

        Raises:
            InvalidInput: If the context cannot be made.
        """
        began = time.monotonic()
        with self._context() as (folder, digest):
            recipe = self.recipe
            planned = planned_inventory(recipe.pins, recipe.roots)
            sbom = self._sbom(planned, folder, digest)
        return Image(
            name=self.name, version=self.version, context_object=digest, built=False, reason=reason,
            sbom_object=sbom, seconds=time.monotonic() - began,
        )  # fmt: skip

    def build(self, engine: Engine, question: Question, registry: str = "") -> Image:
        """Build the image or find it by its context, have it answer `question`, then name it and push it.

        Args:
            engine: What builds and runs it.
            question: What the image must answer before it counts.
            registry: Host and path that it is pushed to, e.g. `registry.example.org/team`; empty: nowhere.

        Raises:
            InvalidInput: If the context cannot be made, or a step of the build fails.
            Unavailable: If the engine, the base image or the registry does not answer.
            VolvoxError: If the image does not answer as it should; it then has no name and is removed.
        """
        began = time.monotonic()
        with self._context() as (folder, digest):
            image = engine.find(digest)
            if image:
                progress.note("an image of this context is here already")
            else:
                image = engine.build(self.store.path(digest), digest, self.cancelled)
            self._stop_if_cancelled()
            progress.note("asking the image a held-out image")
            try:
                inventory = prove(engine, image, question, self.cancelled)
            except VolvoxError:
                engine.remove(image)
                raise
            sbom = self._sbom(inventory, folder, digest)
        engine.name(image, self.recipe.repository, (self.recipe.tag, self.recipe.latest))
        told = engine.image(image)
        return Image(
            name=self.name,
            version=self.version,
            context_object=digest,
            built=True,
            image_id=told["Id"],
            pushed=engine.push(image, f"{registry}/{self.name}") if registry else "",
            bytes=told["Size"],
            layers=engine.layers(image),
            sbom_object=sbom,
            seconds=time.monotonic() - began,
        )

    # -- inside --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _context(self) -> Iterator[tuple[Path, str]]:
        """The build context as a folder, and its digest in the store."""
        with tempfile.TemporaryDirectory(prefix="volvox-context-") as place:
            folder = write_context(self.recipe, Path(place, "context"))
            yield folder, self.store.put_tree(folder)

    def _sbom(self, inventory: dict[str, Any], folder: Path, context: str) -> str:
        recipe = self.recipe
        return self.store.put_bytes(
            bill_of_materials(
                recipe.repository, recipe.tag, inventory, folder / "model",
                context=context, base=recipe.base, roots=recipe.roots,
            )
        )  # fmt: skip

    def _stop_if_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled

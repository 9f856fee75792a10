"""A model's serving image, as a version of a function, and its containers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.runtimes.engine import VERSION, Engine, Found, orphaned
from volvox.runtimes.models import Model, Models
from volvox.runtimes.servers import Servers


@dataclass(eq=False)
class ImageVersion:
    """One version of a model function, in containers.

    Attributes:
        function: Its definition.
        version: What the dispatcher calls it.
        model: What answers.
        image: Reference or id of its serving image.
        arguments: Those of its predictions.
        servers: Its containers.
    """

    function: Function
    version: str
    model: Model
    image: str
    servers: Servers
    arguments: list[dict[str, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What its containers carry."""
        return digest_of([self.version, self.model.digest, self.image])[:32]

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "function": self.function.model_dump(mode="json"),
            "version": self.version,
            "model": self.model.as_json(),
            "image": self.image,
            "arguments": self.arguments,
            "cold_seconds": self.servers.start_seconds,
        }


async def image_of(engine: Engine, models: Models, model: Model) -> str:
    """The model's serving image for this engine: the one that was built on it, else the one in a registry.

    Raises:
        InvalidInput: If there is none, or the engine cannot keep a server.
    """
    if not engine.keeps:
        raise InvalidInput(f"{engine.kind} cannot keep a model's server; a model needs docker or podman")
    image = await asyncio.to_thread(models.image, model)
    if image is None:
        raise InvalidInput(
            f"model {model.name!r}, version {model.version}, has no serving image: run the cycle again with an "
            "engine (`volvox cycle`), or name runtime local"
        )
    if image.image_id and await engine.has(image.image_id):
        return image.image_id
    if image.pushed:
        return image.pushed
    raise InvalidInput(
        f"the serving image {image.name} is not on this engine, and it was pushed to no registry: run the cycle "
        "again, or set VOLVOX_REGISTRY"
    )


def left(found: Found, label: str) -> bool:
    """Whether it is of no use: of another version, or ended, and its dispatcher is gone."""
    return (not found.running or found.labels.get(VERSION) != label) and orphaned(found)


def how_it_ended(found: Found | None) -> str:
    """What became of a container, as the end of a sentence."""
    if found is None:
        return "is gone"
    if found.error:
        return f"could not be started ({found.error})"
    return "ended for lack of memory" if found.out_of_memory else f"ended with exit code {found.exit_code}"

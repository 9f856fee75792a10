"""The model that a function names, found among the published versions of an object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from volvox.errors import NotFound
from volvox.published import find, published_version
from volvox.records import Cycle, Dataset, Image, ModelVersion, Record, TrainedModel
from volvox.store import Store

R = TypeVar("R", bound=Record)

_SAMPLES = 2


@dataclass(frozen=True, slots=True)
class Model:
    """What answers for a model function.

    Attributes:
        name: The registered model.
        version: Its version number, for people.
        digest: Digest of the model version.
        module: The module, a text that `volvox.worker.finding` reads.
        weights: What `Models.weights` finds the module's weights by; empty: it has none.
        labels: The classes that it may answer with; empty if that is not known.
        samples: What `Models.samples` finds files by that it must be able to answer; empty: there are none.
    """

    name: str
    version: str
    digest: str
    module: str
    weights: str = ""
    labels: tuple[str, ...] = ()
    samples: str = ""

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Model:
        """What `as_json` gave."""
        return cls(**{**told, "labels": tuple(told["labels"])})


class Models(Protocol):
    """Where models are found; every method may take long, and is called in a thread."""

    def resolve(self, reference: str) -> Model:
        """The model `NAME`, `NAME@champion`, `NAME@previous` or `NAME/VERSION`.

        Raises:
            NotFound: If there is none.
        """
        ...

    def weights(self, model: Model) -> Path | None:
        """A folder of this machine with its weights, not to be changed; None if it has none."""
        ...

    def samples(self, model: Model) -> list[Path]:
        """Some files of this machine that it must be able to answer."""
        ...

    def image(self, model: Model) -> Image | None:
        """The serving image that was made of it, if one was."""
        ...


class PublishedModels:
    """The published versions that an object store remembers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def resolve(self, reference: str) -> Model:
        """As `Models.resolve`."""
        version = published_version(self._store, reference)
        dataset = self._dataset(version)
        return Model(
            name=version.name,
            version=version.version,
            digest=version.digest,
            module=version.module,
            weights=version.weights_tree,
            labels=dataset.classes if dataset else (),
            samples=dataset.held_out_tree if dataset else "",
        )

    def weights(self, model: Model) -> Path | None:
        """As `Models.weights`; fetched again where the cache was emptied."""
        return self._store.tree(model.weights) if model.weights else None

    def samples(self, model: Model) -> list[Path]:
        """The first held-out images."""
        if not model.samples:
            return []
        try:
            folder = self._store.tree(model.samples)
            lines = (folder / "dataset_files" / "test.txt").read_text().splitlines()
        except (OSError, NotFound):
            return []
        return [path for line in lines[:_SAMPLES] if (path := folder / "images" / line.rpartition(" ")[0]).is_file()]

    def image(self, model: Model) -> Image | None:
        """The newest record of a serving image that was built of it."""
        built = [one for one in self._records("packaging", Image) if one.version == model.digest and one.built]
        cycle = find(self._store, "cycle", model.name, Cycle)
        if cycle is not None and cycle.image in built:
            return cycle.image
        return next((one for one in built if one.pushed), built[0] if built else None)

    def _dataset(self, version: ModelVersion) -> Dataset | None:
        """What it was trained on, as far as the store still has it."""
        cycle = find(self._store, "cycle", version.name, Cycle)
        if cycle is not None and cycle.version is not None and cycle.version.digest == version.digest:
            return cycle.dataset
        model = next((one for one in self._records("training", TrainedModel) if one.digest == version.model), None)
        if model is None:
            return None
        return next((one for one in self._records("data", Dataset) if one.digest == model.dataset), None)

    def _records(self, stage: str, record: type[R]) -> Iterator[R]:
        for key in self._store.keys(stage):
            if (found := find(self._store, stage, key, record)) is not None:
                yield found


def published() -> PublishedModels:
    """The published models of this home's store; the room that knows its credentials brings it by entry point."""
    from importlib.metadata import distribution

    (point,) = distribution("volvox").entry_points.select(group="volvox.store", name="local")
    return PublishedModels(point.load().local().open())

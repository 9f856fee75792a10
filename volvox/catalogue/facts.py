"""The facts of a published version, gathered from the records of its stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from volvox.modules.discovery import Module
from volvox.records import Dataset, Evaluation, Image, ModelVersion, TrainedModel


@dataclass(frozen=True)
class Published:
    """Everything that one catalogue entry is made of.

    Attributes:
        version: The registered version.
        model: Its training.
        evaluation: How good it is on held-out data.
        dataset: What it learned from.
        image: The serving image, or the context that waits for an engine.
        module: The module that answers.
        argument: The argument of `predict` that takes a file; empty if none does.
        licence: The licence that the module's distribution states, or empty.
    """

    version: ModelVersion
    model: TrainedModel
    evaluation: Evaluation
    dataset: Dataset
    image: Image
    module: Module
    argument: str = ""
    licence: str = ""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.version.name

    def as_metadata(self) -> dict[str, Any]:
        """The facts as keys of the metadata file."""
        dataset, image, version = self.dataset, self.image, self.version
        links = {"docker_image": image.pushed or image.name} if image.built else {}
        told: dict[str, Any] = {
            "name": self.name,
            "version": version.version,
            "links": links,
            "metrics": dict(self.evaluation.metrics),
            "provenance": {
                "mlflow_run": version.run_id,
                "model_version": version.digest,
                "model": self.model.digest,
                "weights": version.weights_tree,
                "module": f"{self.module.name} {self.module.version}",
                "code": version.code,
                "dataset": dataset.digest,
                "dataset_source": dataset.source,
                "arguments": self.model.arguments,
                "started_from": self.model.started_from,
                "build_context": image.context_object,
                "image": image.image_id,
            },
            "data": {
                "name": dataset.name,
                "classes": list(dataset.classes),
                "images": {part: sum(counts) for part, counts in dataset.counts.items()},
                "bytes": dataset.bytes,
                "rejected": dataset.rejected_total,
                "grouped_by": dataset.grouped_by,
            },
        }
        if self.licence:
            told["license"] = self.licence
        if image.built:
            told["image"] = {"name": image.name, "bytes": image.bytes}
        return told


def size(count: float) -> str:
    """A number of bytes for people: `1.4 MB` is 1,400,000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

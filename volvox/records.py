"""What crosses a stage: frozen records of references and digests, never arrays.

A record's `digest` names its content for good. What is large lies in the object store under the digest that a field
ending in `_tree` (a folder) or `_object` (a file) holds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from volvox.foreseen import Foreseen
from volvox.identity import digest_of

Split = Literal["train", "val", "test"]


class Record(BaseModel):
    """Base of all records: immutable, strict about names, and known by a digest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @computed_field
    @property
    def digest(self) -> str:
        """The sha256 of what identifies this record."""
        return digest_of(self.identity())

    def identity(self) -> Any:
        """The part of the record that makes it this one and no other."""
        return self.model_dump(mode="json", exclude={"digest"})

    def objects(self) -> list[str]:
        """Digests of the store's objects without which the record is worth nothing."""
        return [
            value for name, value in self if name.endswith(("_tree", "_object")) and isinstance(value, str) and value
        ]


class Rejected(BaseModel):
    """A file that was left out of a dataset, and why."""

    model_config = ConfigDict(frozen=True)

    file: str
    reason: str


class Dataset(Record):
    """Images with labels, checked and split.

    Attributes:
        name: What people call it.
        source: Where it was fetched from.
        classes: Class names; a label is an index into them.
        counts: How many images each part has of each class: `counts["train"][label]`.
        content: Digest of the manifest: every file's relative path, sha256, label and part, sorted. It does not
            depend on the order of files or on the machine.
        learning_tree: Folder with `images/` and `dataset_files/{classes,train,val}.txt`.
        held_out_tree: Folder with `images/` and `dataset_files/{classes,test}.txt`; training never sees it.
        manifest_object: The manifest as JSON.
        rejected: Files that were left out (the first 1000), and `rejected_total` of them in all.
        grouped_by: What kept images together in the split: empty, `groups.csv` or the name of a time column.
        bytes: Size of all images.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    counts: dict[Split, tuple[int, ...]]
    content: str
    learning_tree: str
    held_out_tree: str
    manifest_object: str
    rejected: tuple[Rejected, ...] = ()
    rejected_total: int = 0
    grouped_by: str = ""
    bytes: int = 0

    def identity(self) -> Any:
        return ["dataset", self.content]

    def total(self, part: Split) -> int:
        """How many images `part` has."""
        return sum(self.counts[part])


class TrainedModel(Record):
    """What a module's training left, and where its run is recorded.

    Attributes:
        module: Entry-point name of the module.
        module_version: Version of its distribution.
        code: Digest of the module's code.
        dataset: Digest of the dataset it learned from.
        arguments: Arguments that were given to `train`.
        weights_tree: The folder that `train` wrote; later the module's `weights` place.
        run_id: MLflow run.
        metrics: Numbers that `train` returned.
        started_from: Digest of the weights it started from, or empty.
        seconds: How long the training took.
        place: The work pool it ran on; empty: in the cycle's own process.
        processes: How many processes it was trained in.
        ended: When, or None where it is not known.
        cost: What that cost with the start of its job, in the operator's currency; None where nobody knows.
        foreseen: What was predicted of time and cost before it began; None where nothing was known.
    """

    module: str
    module_version: str
    code: str
    dataset: str
    arguments: dict[str, Any]
    weights_tree: str
    run_id: str = ""
    metrics: dict[str, float] = {}
    started_from: str = ""
    seconds: float = 0.0
    place: str = ""
    processes: int = 1
    ended: datetime | None = None
    cost: float | None = None
    foreseen: Foreseen | None = None

    def identity(self) -> Any:
        return ["model", self.module, self.code, self.weights_tree]


class ClassScore(BaseModel):
    """How well one class is recognised."""

    model_config = ConfigDict(frozen=True)

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class Evaluation(Record):
    """How good a model is on data it never saw.

    Attributes:
        model: Digest of the trained model.
        dataset: Digest of the dataset whose test part was used.
        metrics: `accuracy`, `macro_f1`, `top5_accuracy`, `calibration_error`, ... each in [0, 1].
        per_class: One score a class, in the dataset's order; empty for a module that reports metrics only.
        confusion: Row = true class, column = predicted class, counts.
        predictions_object: The predictions as an `.npz` (labels (N,), probabilities (N, C), files (N,)), or empty.
        report_tree: Folder with `confusion.png`, `reliability.png`, `mistakes.png`, `evaluation.json`.
        images: How many held-out images were scored.
    """

    model: str
    dataset: str
    metrics: dict[str, float]
    per_class: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    predictions_object: str = ""
    report_tree: str = ""
    images: int = 0

    def identity(self) -> Any:
        return ["evaluation", self.model, self.dataset, self.metrics]


class Verdict(BaseModel):
    """What the gate decided, and the numbers it decided by.

    Attributes:
        accepted: Whether the model may become champion.
        reason: One sentence with the numbers.
        metric: The metric compared.
        value: The model's value of it.
        threshold: The least value that the module states.
        champion: The present champion's version, or empty.
        champion_value: Its value on the same data, or None.
        difference: `value - champion_value`, with the bootstrap interval `low`..`high` of it.
    """

    model_config = ConfigDict(frozen=True)

    accepted: bool
    reason: str
    metric: str
    value: float
    threshold: float
    champion: str = ""
    champion_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class ModelVersion(Record):
    """A registered version of a model.

    Attributes:
        name: The registered model, e.g. `digits`.
        version: Its version number in MLflow, as a string.
        model: Digest of the trained model.
        module: Entry-point name of the module that answers with it.
        code: Digest of that module's code.
        weights_tree: The module's `weights` place.
        run_id: MLflow run that trained it.
        verdict: What the gate said.
        champion: Whether the alias `champion` points here.
    """

    name: str
    version: str
    model: str
    module: str
    code: str
    weights_tree: str
    run_id: str = ""
    verdict: Verdict
    champion: bool = False

    def identity(self) -> Any:
        return ["version", self.name, self.model]


class Image(Record):
    """A serving image, or the build context that waits for an engine.

    Attributes:
        name: Repository and tag, e.g. `volvox/digits:1`.
        version: Digest of the model version inside.
        context_object: The build context as a tar; what the image is found by.
        built: Whether an engine built it, ran it and asked it a held-out image.
        reason: Why it was not built, or empty.
        image_id: The engine's id of it (`sha256:...`).
        pushed: Reference with digest in the registry, or empty.
        bytes: Size as the engine reports it.
        layers: Size of each layer with what made it, newest first.
        sbom_object: CycloneDX bill of materials (JSON), or empty.
        seconds: How long the build took.
    """

    name: str
    version: str
    context_object: str
    built: bool
    reason: str = ""
    image_id: str = ""
    pushed: str = ""
    bytes: int = 0
    layers: tuple[tuple[str, int], ...] = ()
    sbom_object: str = ""
    seconds: float = 0.0

    def identity(self) -> Any:
        return ["image", self.version, self.context_object, self.built]


class CatalogueEntry(Record):
    """A model's page in the catalogue.

    Attributes:
        name: The model's name; its page is `/catalogue/<name>/`.
        version: Digest of the model version shown.
        metadata_object: The completed `metadata.yaml`.
        page_tree: The page's files.
        path: Path of the page on the web server.
    """

    name: str
    version: str
    metadata_object: str
    page_tree: str
    path: str

    def identity(self) -> Any:
        return ["entry", self.name, self.version, self.metadata_object, self.page_tree]


class Service(Record):
    """A served model version.

    Attributes:
        name: The model's name in URLs.
        version: Its version number.
        model_version: Digest of the model version.
        url: Base address of the server, e.g. `http://127.0.0.1:8080`.
        predict_url: Where to POST a file.
        try_url: A page to try the model in.
        module_description: What the module says of its arguments (see `volvox.worker.describing`).
    """

    name: str
    version: str
    model_version: str
    url: str
    predict_url: str
    try_url: str
    module_description: dict[str, Any] = {}

    def identity(self) -> Any:
        return ["service", self.name, self.model_version]


class Job(Record):
    """One object in, one JSON out.

    Attributes:
        service: Name of the model that answered.
        version: Its version number.
        input: Name of the object.
        input_digest: sha256 of its bytes.
        answer_object: The answer, JSON.
        seconds: How long the request took.
    """

    service: str
    version: str
    input: str
    input_digest: str
    answer_object: str
    seconds: float = 0.0

    def identity(self) -> Any:
        return ["job", self.service, self.version, self.input_digest]


class StageTime(BaseModel):
    """How long a stage took in one cycle.

    Attributes:
        stage: Its name.
        seconds: Wall time from its start to its end.
        work_seconds: The part of it that was the stage's own work.
        reused: Whether its result was there already.
        place: The work pool it ran on; empty: in the cycle's own process.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    seconds: float
    work_seconds: float
    reused: bool = False
    place: str = ""


class Attempt(BaseModel):
    """One try of `cycle`: the arguments, and what the gate said of the model they gave."""

    model_config = ConfigDict(frozen=True)

    arguments: dict[str, Any]
    metrics: dict[str, float]
    verdict: Verdict
    run_id: str = ""


class Cycle(Record):
    """One run of the whole cycle; what is None was not reached because the gate refused.

    Attributes:
        attempts: Every try, in order; the last one made the version or was refused like the others.
        stages: Times, in order.
        links: Title -> URL of everything worth opening.
        flow_run: Prefect's id of the run.
    """

    name: str
    dataset: Dataset
    model: TrainedModel
    evaluation: Evaluation
    attempts: tuple[Attempt, ...]
    version: ModelVersion | None = None
    image: Image | None = None
    entry: CatalogueEntry | None = None
    service: Service | None = None
    job: Job | None = None
    stages: tuple[StageTime, ...] = ()
    links: dict[str, str] = {}
    flow_run: str = ""

    @property
    def reused(self) -> bool:
        """Whether every stage found its result made already."""
        return bool(self.stages) and all(stage.reused for stage in self.stages)

"""What each flow that has a deployment returns."""

from __future__ import annotations

from volvox.bulk.answers import BatchAnswers
from volvox.records import (
    CatalogueEntry,
    Cycle,
    Dataset,
    Evaluation,
    Image,
    Job,
    ModelVersion,
    Record,
    Service,
    TrainedModel,
)

RETURNED_BY: dict[str, type[Record]] = {
    "cycle": Cycle, "data": Dataset, "training": TrainedModel, "evaluation": Evaluation, "registration": ModelVersion,
    "packaging": Image, "publication": CatalogueEntry, "serving": Service, "inference": Job,
    "batch-inference": BatchAnswers,
}  # fmt: skip

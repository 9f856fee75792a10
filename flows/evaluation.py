"""The evaluation stage."""

from __future__ import annotations

from blocks.store import ObjectStore
from blocks.tracking import Tracking
from flows.stage import stage
from tasks.evaluation import evaluate_model
from volvox.records import Dataset, Evaluation, TrainedModel
from volvox.settings import Home


@stage("evaluation", "evaluate-{model.module}")
async def evaluation(
    model: TrainedModel,
    dataset: Dataset,
    *,
    store: ObjectStore | None = None,
    tracking: Tracking | None = None,
) -> Evaluation:
    """Score `model` on the part of `dataset` that no training saw.

    Args:
        model: What to score.
        dataset: Whose test part to use.
        store: Where predictions and report are kept.
        tracking: The MLflow server, whose run of the model gets metrics and pictures.

    Raises:
        ModuleFailed: If the module raises, or answers what cannot be read.
        Unavailable: If the MLflow server does not answer.
    """
    store, tracking = store or ObjectStore.local(), tracking or Tracking.local()
    return await evaluate_model(model, dataset, store.open(), Home.current(), tracking)

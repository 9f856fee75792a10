"""The registration stage."""

from __future__ import annotations

from blocks.store import ObjectStore
from blocks.tracking import Tracking
from flows.stage import stage
from tasks.registration import register_model
from volvox.records import Dataset, Evaluation, ModelVersion, TrainedModel


@stage("registration", "register-{name}")
async def registration(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    store: ObjectStore | None = None,
    tracking: Tracking | None = None,
) -> ModelVersion:
    """Make `model` the champion of `name` if the gate lets it.

    Args:
        name: The registered model.
        model: What was trained.
        evaluation: Its evaluation on `dataset`.
        dataset: Whose held-out part it is compared with the present champion on.
        store: Where predictions and records are kept.
        tracking: The MLflow server.

    Raises:
        GateRefused: If the model is not good enough; the champion stays.
        Unavailable: If the MLflow server does not answer.
    """
    return await register_model(
        name, model, evaluation, dataset,
        store=(store or ObjectStore.local()).open(), tracking=tracking or Tracking.local(),
    )  # fmt: skip

"""The training stage."""

from __future__ import annotations

from typing import Any

from blocks.store import ObjectStore
from blocks.tracking import Tracking
from flows.parameters import Nodes, Processes
from flows.stage import stage
from tasks.training import train_model
from volvox.records import Dataset, ModelVersion, TrainedModel
from volvox.settings import Home


@stage("training", "train-{module}")
async def training(
    dataset: Dataset,
    *,
    module: str = "image_classifier",
    arguments: dict[str, Any] | None = None,
    name: str = "",
    start_from: ModelVersion | None = None,
    store: ObjectStore | None = None,
    tracking: Tracking | None = None,
    processes: Processes = 1,
    nodes: Nodes = 1,
) -> TrainedModel:
    """Train `module` on `dataset` and return where its weights and its run are.

    Args:
        dataset: Checked and split images.
        module: Entry-point name of the model module that learns.
        arguments: Values for the module's own `get_train_args()`.
        name: The model's name; default: the dataset's.
        start_from: A registered version whose weights to start from.
        store: Where weights and records are kept.
        tracking: The MLflow server.
        processes: How many processes of one machine share each batch, where the module says `distributed = True`; the
            result is the same.
        nodes: How many machines do so, each with so many processes; a pool of type kubernetes starts them.

    Raises:
        InvalidInput: If the module refuses the arguments, or knows nothing of several processes.
        ModuleFailed: If the training raises or dies.
        Unavailable: If the MLflow server does not answer.
    """
    return await train_model(
        module, dataset, arguments or {}, name=name or dataset.name, start_from=start_from,
        store=(store or ObjectStore.local()).open(), home=Home.current(), tracking=tracking or Tracking.local(),
        processes=processes, nodes=nodes,
    )  # fmt: skip

"""The inference stage."""

from __future__ import annotations

from blocks.server import ModelServer
from blocks.store import ObjectStore
from flows.stage import stage
from tasks.inference import answer_object
from volvox.records import Dataset, Job, Service
from volvox.settings import Home


@stage("inference", "ask-{service.name}")
async def inference(
    service: Service,
    source: str = "",
    *,
    dataset: Dataset | None = None,
    store: ObjectStore | None = None,
    server: ModelServer | None = None,
) -> Job:
    """Have the served model answer one object; its answer is kept in the store.

    Args:
        service: The served model.
        source: The object: a path, `file://`, `https://`, or `http://` of this machine.
        dataset: Its first held-out image is the object if no source is given.
        store: Where the answer is kept.
        server: What serves the model.

    Raises:
        NotFound: If there is no such object.
        InvalidInput: If the model refuses it.
        ModuleFailed: If the model fails.
        Unavailable: If the server does not answer.
    """
    return await answer_object(
        service, source, dataset,
        store=(store or ObjectStore.local()).open(), server=server or ModelServer.local(), home=Home.current(),
    )  # fmt: skip

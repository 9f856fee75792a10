"""The serving stage."""

from __future__ import annotations

from blocks.server import ModelServer
from blocks.store import ObjectStore
from flows.stage import stage
from tasks.serving import serve_model
from volvox.records import Dataset, ModelVersion, Service


@stage("serving", "serve-{version.name}")
async def serving(
    version: ModelVersion, dataset: Dataset, *, store: ObjectStore | None = None, server: ModelServer | None = None
) -> Service:
    """Serve `version` once it has answered held-out images; what was served under its name answers until then.

    Args:
        version: The registered version.
        dataset: Where the held-out images come from.
        store: Where weights and images are kept.
        server: What serves the model.

    Raises:
        ModuleFailed: If the version does not start or does not answer as it should; nothing has changed then.
        Unavailable: If the server does not answer.
    """
    return await serve_model(
        version, dataset, store=(store or ObjectStore.local()).open(), server=server or ModelServer.local()
    )

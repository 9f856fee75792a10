"""Serve a model version."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.server import ModelServer
from tasks.retries import is_transient
from volvox import progress
from volvox.errors import InvalidInput
from volvox.records import Dataset, ModelVersion, Service
from volvox.store import Store

_MOST_SAMPLES = 8
_SMOKE_IMAGES = 2


@task(name="serve_model", retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=is_transient, cache_policy=NO_CACHE)
@progress.working
async def serve_model(version: ModelVersion, dataset: Dataset, *, store: Store, server: ModelServer) -> Service:
    """Have `server` answer with `version` under its name, or find that it does.

    Args:
        version: The registered version.
        dataset: Held-out images of it prove the new worker, and are the samples of the try page.
        store: Where weights and images are kept.
        server: What serves the model.

    Raises:
        InvalidInput: If the dataset has no held-out image.
        ModuleFailed: If the version does not start or does not answer as it should; what was served goes on.
        Unavailable: If the server does not answer (tried again twice).
    """
    told = (await server.served()).get(version.name)
    if told is not None and told["model_version"] == version.digest and told["state"] == "ready":
        progress.reused()
        return _service(version, server, told["description"])
    images = await asyncio.to_thread(_one_of_each_class, dataset, store)
    description, changed = await server.deploy(
        version.name,
        version=version.version,
        model_version=version.digest,
        module=version.module,
        weights=await asyncio.to_thread(store.tree, version.weights_tree),
        smoke=images[:_SMOKE_IMAGES],
        samples=images[:_MOST_SAMPLES],
        labels=dataset.classes,
    )
    if not changed:  # it was on its way
        progress.reused()
    return _service(version, server, description["description"])


def _one_of_each_class(dataset: Dataset, store: Store) -> list[Path]:
    """The first held-out image of every class, in the order of the classes."""
    from volvox.evaluation.predictions import held_out

    folder = store.tree(dataset.held_out_tree)
    first: dict[str, str] = {}
    for file, label in sorted(held_out(folder).items()):
        first.setdefault(label, file)
    if not first:
        raise InvalidInput(f"dataset {dataset.name!r} has no held-out image to prove the server with; prepare it again")
    return [folder / "images" / first[label] for label in dataset.classes if label in first]


def _service(version: ModelVersion, server: ModelServer, description: dict[str, object]) -> Service:
    return Service(
        name=version.name,
        version=version.version,
        model_version=version.digest,
        url=server.url,
        predict_url=f"{server.url}/v2/models/{version.name}/predict/",
        try_url=f"{server.url}/models/{version.name}/",
        module_description=description,
    )

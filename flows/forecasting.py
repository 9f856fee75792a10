"""What a training is thought to take and to cost before it begins, and what it took, kept beside each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flows.placing import Places
from tasks.training import training_key
from volvox import progress
from volvox.errors import VolvoxError
from volvox.foreseen import Foreseen
from volvox.modules import calling, discovery
from volvox.pools import cost
from volvox.pools.cost import Training
from volvox.records import Dataset, TrainedModel
from volvox.settings import Home
from volvox.store import Store

_READS_SECONDS = 5.0


@dataclass(frozen=True)
class Expected:
    """A training that is about to begin.

    Attributes:
        key: What its record is found by.
        pool: Where it goes.
        foreseen: What is predicted; None where nothing is known.
    """

    key: str
    pool: str
    foreseen: Foreseen | None


async def epochs_argument(module: discovery.Module, home: Home) -> dict[str, Any]:
    """The module's argument that says how often it learns from each image, with its default; empty if it has none."""
    try:
        described = await calling.describe(module, home)
    except VolvoxError:  # a module that cannot be asked will say so when it is to train
        return {}
    offered = {told["name"]: told.get("default") for told in described.get("train") or []}
    return next(({name: offered[name]} for name in cost.EPOCHS if name in offered), {})


def records(store: Store, stage: str, record: Any) -> list[Any]:
    """Every record of a stage that this release can read."""
    from pydantic import ValidationError

    found = []
    for key in store.keys(stage):
        try:
            found.append(record.model_validate(store.record(stage, key)))
        except ValidationError:
            continue
    return found


async def expect(store: Store, places: Places, pool: str, parameters: Mapping[str, Any]) -> Expected | None:
    """What the training with these parameters is thought to take on `pool`, told as progress; None if it was done.

    It is not waited for long: a training begins without a prediction rather than late.
    """
    dataset, module = parameters["dataset"], str(parameters["module"])
    arguments, start = dict(parameters.get("arguments") or {}), parameters.get("start_from")

    def look(defaults: dict[str, Any]) -> Expected | None:
        key = training_key(found.code, dataset, arguments, start.weights_tree if start else "")
        if store.record("training", key) is not None:
            return None
        models, datasets = records(store, "training", TrainedModel), records(store, "data", Dataset)
        runs = cost.earlier_runs(module, models, datasets, defaults)
        world = int(parameters.get("processes") or 1) * int(parameters.get("nodes") or 1)
        asked = Training(dataset.total("train"), {**defaults, **arguments}, world)
        pools = places.definitions()
        return Expected(key, pool, cost.foreseen(pools[pool], pools, asked, runs))

    with contextlib.suppress(TimeoutError, VolvoxError, OSError):
        async with asyncio.timeout(_READS_SECONDS):
            found = await asyncio.to_thread(discovery.find, module)
            expected = await asyncio.to_thread(look, await epochs_argument(found, Home.current()))
        if expected and (thought := expected.foreseen):
            paid = f" for {thought.cost:.2f}" if thought.cost else ""
            progress.note(f"about {cost.in_words(thought.seconds)}{paid}, {thought.said}")
        return expected
    return None


async def settle(
    store: Store, places: Places, expected: Expected, made: TrainedModel, *, runs: Iterable[str], seconds: float
) -> TrainedModel:
    """The model's record with what was predicted and what it cost, kept in the store in place of the one without.

    Args:
        store: Where the record is.
        places: Whose pools have a price.
        expected: What `expect` said.
        made: What the training returned.
        runs: Prefect's ids of the runs that it took on its pool.
        seconds: From its submission to its record, for where Prefect does not say how long its jobs were.
    """
    pool = places.definitions()[expected.pool]
    paid = 0.0
    if pool.cost_per_hour:
        found = await _job_seconds(runs)
        paid = cost.price(pool, seconds if found is None else found)
    told = made.model_copy(update={"foreseen": expected.foreseen, "cost": paid})
    if expected.foreseen is not None:
        progress.note(cost.compared(told))
    with contextlib.suppress(VolvoxError, OSError):  # the cycle goes on with what it has
        await asyncio.to_thread(store.put_record, "training", expected.key, told.model_dump(mode="json"))
    return told


async def _job_seconds(runs: Iterable[str]) -> float | None:
    """How long the jobs of some flow runs were there, the wait for a free place left out; None if nobody says."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType

    total = 0.0
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_READS_SECONDS), get_client() as client:
            for run in dict.fromkeys(runs):
                states = await client.read_flow_run_states(UUID(run))
                began = min(state.timestamp for state in states if state.type == StateType.PENDING)
                total += (max(state.timestamp for state in states) - began).total_seconds()
        return total or None
    return None

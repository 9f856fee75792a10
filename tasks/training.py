"""Train a module on a dataset."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.tracked_run import TrackedRun, is_number
from blocks.tracking import Tracking
from tasks.retries import is_transient
from tasks.reuse import once
from volvox import progress
from volvox.blocking import entered
from volvox.distributed.together import STAGE, Together
from volvox.identity import stage_key
from volvox.modules.calling import call_module
from volvox.modules.discovery import Module, find
from volvox.modules.several import check_processes
from volvox.records import Dataset, ModelVersion, TrainedModel
from volvox.settings import Home
from volvox.store import Store

_PROGRESS = "progress.jsonl"


def training_key(code: str, dataset: Dataset, arguments: Mapping[str, Any], weights: str = "") -> str:
    """What the record of a training is found by.

    Args:
        code: Digest of the module's code.
        dataset: What it learns from.
        arguments: Values for the module's own `get_train_args()`.
        weights: Digest of the weights that it starts from, or empty.
    """
    return stage_key("training", code=code, inputs=[dataset.digest, weights], arguments=dict(arguments))


@task(
    name="train_model", retries=2, retry_delay_seconds=[10, 60], retry_condition_fn=is_transient, cache_policy=NO_CACHE
)
@progress.working
async def train_model(
    module: str,
    dataset: Dataset,
    arguments: dict[str, Any],
    *,
    name: str,
    start_from: ModelVersion | None,
    store: Store,
    home: Home,
    tracking: Tracking,
    processes: int = 1,
    nodes: int = 1,
) -> TrainedModel:
    """Train `module` on `dataset`, recorded as one MLflow run, or find that it was done.

    A training that was killed goes on from its newest checkpoint and in its own run, on whatever machine.

    Args:
        module: Entry-point name of the module.
        dataset: What to learn from; its held-out part is not given to the module.
        arguments: Values for the module's own `get_train_args()`.
        name: The model's name, which the MLflow experiment gets.
        start_from: A version whose weights to start from.
        store: Where weights and the record are kept, and checkpoints until the record is.
        home: Where the training works.
        tracking: Where the run is recorded; not needed if the training was done before.
        processes: How many processes of this machine share each batch. The result is the same, so that it is no
            argument: a training may go on with another number.
        nodes: How many machines do so, each with so many processes; whoever started this one starts the others.

    Raises:
        UnknownModule: If no such module is installed.
        InvalidInput: If the module refuses the arguments, or knows nothing of several processes; nothing is begun then.
        ModuleFailed: If the training raises or dies; its checkpoints stay.
        Unavailable: If the tracking server does not answer, or memory did not suffice (tried again twice).
    """
    found = find(module)
    weights = start_from.weights_tree if start_from else ""
    key = training_key(found.code, dataset, arguments, weights)

    async def train() -> TrainedModel:
        return await _train(
            found, dataset, arguments, name=name, weights=weights, key=key,
            work=home.cache / "work" / key, store=store, tracking=tracking, processes=processes,
            together=Together.told(nodes) if nodes > 1 else None,
        )  # fmt: skip

    model = await once(store, "training", key, TrainedModel, train)
    await asyncio.to_thread(store.drop_checkpoints, key)  # not sooner: until the record is kept a kill may need them
    return model


async def _train(
    module: Module,
    dataset: Dataset,
    arguments: dict[str, Any],
    *,
    name: str,
    weights: str,
    key: str,
    work: Path,
    store: Store,
    tracking: Tracking,
    processes: int,
    together: Together | None,
) -> TrainedModel:
    began, world = time.monotonic(), processes * (together.nodes if together else 1)
    parameters = await _checked(module, arguments, tracking, world)
    if together:  # at once, so that the others fetch the data at the same time
        told = {"data": dataset.learning_tree, "weights": weights, "module": module.name, "arguments": arguments}
        await asyncio.to_thread(store.put_record, STAGE, together.group, {**told, "processes": processes})
    places = {"data": await asyncio.to_thread(store.tree, dataset.learning_tree)}
    if weights:
        places["weights"] = await asyncio.to_thread(store.tree, weights)
    tags = {
        "volvox.dataset": dataset.digest,
        "volvox.module": module.name,
        "volvox.module_version": module.version,
        "volvox.code": module.code,
        "volvox.arguments": json.dumps(arguments, sort_keys=True),
        "volvox.started_from": weights,
    }

    async with entered(store.checkpoints(key)) as checkpoints:
        run = await asyncio.to_thread(
            TrackedRun.begin, tracking, name, name=f"{module.name}-{dataset.name}", kept=checkpoints / "run.json"
        )
        with _emptied(work):
            output, log = work / "output", work / "log" / "train.log"
            for folder in (output, log.parent):
                folder.mkdir()
            async with run.recording(log.parent, lambda: run.describe(parameters, tags, dataset)):
                returned = await call_module(
                    module.name, "train", arguments,
                    places={**places, "checkpoints": checkpoints, "output": output},
                    environment={**tracking.environment(), "MLFLOW_RUN_ID": run.run_id},
                    on_progress=_Listener(run), log=log, processes=processes, together=together,
                )  # fmt: skip
                # A server that was away meanwhile is waited for before anything is written to it.
                await tracking.activate()
                if isinstance(returned, dict) and returned.get("resumed_from_epoch"):
                    progress.note(f"went on from epoch {returned['resumed_from_epoch']}")
                metrics = _metrics(returned)
                run.log({f"final_{name}": value for name, value in metrics.items()}, 0)
                (output / _PROGRESS).unlink(missing_ok=True)
                weights_tree, _ = await asyncio.gather(
                    asyncio.to_thread(store.put_tree, output), asyncio.to_thread(run.artifacts, output, "weights")
                )
    return TrainedModel(
        module=module.name,
        module_version=module.version,
        code=module.code,
        dataset=dataset.digest,
        arguments=arguments,
        weights_tree=weights_tree,
        run_id=run.run_id,
        metrics=metrics,
        started_from=weights,
        seconds=time.monotonic() - began,
        place=os.environ.get("VOLVOX_POOL", ""),
        processes=world,
        ended=datetime.now(UTC),
    )


async def _checked(module: Module, arguments: dict[str, Any], tracking: Tracking, world: int) -> dict[str, Any]:
    """All arguments with their defaults, as the module's fields understand them; the server is reached meanwhile."""
    check_processes(module.name, world, await call_module(module.name, "describe") if world > 1 else {})
    reaching = asyncio.ensure_future(tracking.activate())
    try:
        parameters = await call_module(module.name, "validate:train", arguments)
        await reaching
    finally:
        reaching.cancel()
    return parameters


class _Listener:
    """Hands each progress line of the module to the run and to whoever watches the stage."""

    def __init__(self, run: TrackedRun) -> None:
        self.run, self.lines = run, 0

    def __call__(self, line: dict[str, Any]) -> None:
        self.lines += 1
        metrics = {name: value for name, value in dict(line.get("metrics") or {}).items() if is_number(value)}
        speed = line.get("images_per_second")
        step = next((line[name] for name in ("step", "epoch", "done") if is_number(line.get(name))), self.lines)
        self.run.log({**metrics, "images_per_second": speed}, int(step))
        detail = {**({"images/s": speed} if is_number(speed) else {}), **metrics}
        progress.advance(line.get("done") or 0, line.get("total") or 0, str(line.get("unit") or "steps"), **detail)


def _metrics(returned: Any) -> dict[str, float]:
    """The numbers under `metrics` of what `train` returned."""
    metrics = returned.get("metrics") if isinstance(returned, dict) else None
    return {str(name): float(value) for name, value in dict(metrics or {}).items() if is_number(value)}


@contextlib.contextmanager
def _emptied(work: Path) -> Iterator[None]:
    """An empty folder for the time of the block; a killed earlier try may have left it full."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(work, ignore_errors=True)

"""What `volvox cycle` would do: which stages are there already, where training would go, how long and for how much.

Nothing is started and nothing is trained; what is asked are files, records, and the Prefect server if it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from blocks.store import ObjectStore
from flows.forecasting import epochs_argument, records
from volvox.data.options import Options
from volvox.data.prepare import FORMAT
from volvox.data.sample import is_sample
from volvox.errors import VolvoxError
from volvox.identity import stage_key
from volvox.modules import discovery
from volvox.pools import cost
from volvox.pools.cost import Forecast, Training, in_words
from volvox.pools.definition import HERE, PoolDefinition
from volvox.pools.machine import pools_within_reach
from volvox.pools.needs import Needs, needs_of
from volvox.pools.placement import PoolState
from volvox.records import Dataset, Evaluation, ModelVersion, TrainedModel
from volvox.settings import Home
from volvox.store import Store

_EARLY = datetime.min.replace(tzinfo=UTC)
Does = Literal["reused", "runs", "depends"]


@dataclass(frozen=True)
class StagePlan:
    """What one stage would do: `reused`, `runs`, or `depends` on what only the run itself finds out."""

    stage: str
    does: Does
    said: str


@dataclass(frozen=True)
class Plan:
    """What a cycle would do.

    Attributes:
        stages: One for each, in order.
        needs: What training must have.
        forecasts: One for each pool, the chosen one first; none if the training is reused.
        trouble: Why the pools' state is not known, or empty.
        last: The module's newest training of which it is known what it cost.
    """

    stages: tuple[StagePlan, ...]
    needs: Needs
    forecasts: tuple[Forecast, ...]
    trouble: str = ""
    last: TrainedModel | None = None


async def plan(
    source: str,
    home: Home,
    *,
    name: str,
    module: str,
    arguments: Mapping[str, Any] | None = None,
    start_from: str = "",
    data_options: Mapping[str, Any] | None = None,
    image: bool = True,
    places: Mapping[str, str] | None = None,
    processes: int = 1,
    nodes: int = 1,
) -> Plan:
    """Find out what `flows.cycle.cycle` would do with the same parameters.

    Args:
        source: As for the cycle; a server that cannot say whether its data changed is read.
        home: Whose store and stack.
        name: As for the cycle.
        module: As for the cycle.
        arguments: As for the cycle.
        start_from: As for the cycle.
        data_options: As for the cycle.
        image: As for the cycle.
        places: Stage -> stated pool; `auto` or nothing: by its needs.
        processes: As for the cycle.
        nodes: As for the cycle.

    Raises:
        VolvoxError: As the cycle would: an unknown module, a source that is not there, a pool that does not exist.
    """
    store = ObjectStore.local().open()
    found = discovery.find(module)
    needs = needs_of(found, "training")
    dataset, prepared = await _dataset(store, home, source, dict(data_options or {}))
    models = await asyncio.to_thread(records, store, "training", TrainedModel)
    datasets = await asyncio.to_thread(records, store, "data", Dataset)
    model = _model(store, found, dataset, dict(arguments or {}), _weights(store, start_from))
    rows: list[Forecast] = []
    trouble = ""
    if model is None:
        pools = await asyncio.to_thread(pools_within_reach, home, (places or {}).get("training", ""))
        if nodes > 1:
            pools = {pool: told for pool, told in pools.items() if told.type == "kubernetes"}
        states, trouble = await _states(home, pools)
        images = dataset.total("train") if dataset else await asyncio.to_thread(_images, source, data_options or {})
        stated = (places or {}).get("training", "")
        defaults = await epochs_argument(found, home)
        rows = cost.forecasts(
            needs, pools, states,
            training=Training(images, {**defaults, **(arguments or {})}, processes * nodes),
            runs=cost.earlier_runs(module, models, datasets, defaults),
            stated="" if stated == "auto" else stated,
        )  # fmt: skip
    stages = (prepared, _training(model, rows), *_after_training(store, name, model, dataset, image))
    return Plan(stages, needs, tuple(rows), trouble, _last(module, models, datasets))


def as_values(made: Plan) -> dict[str, Any]:
    """The plan for machines."""
    return {
        "stages": [asdict(stage) for stage in made.stages],
        "needs": made.needs.model_dump(),
        "training": [asdict(row) for row in made.forecasts],
        "last_training": _compared(made.last) if made.last else None,
        "prefect": made.trouble or "ok",
    }


def as_text(made: Plan) -> str:
    """The plan for people: a line a stage, then a table of the places where training could go."""
    from flows.listing import table

    lines = [table(("stage", "does", "because"), [(one.stage, one.does, one.said) for one in made.stages])]
    if made.forecasts:
        head = ("", "pool", "begins", "takes", "costs", "why")
        lines += ["", "training:", table(head, [_row(one) for one in made.forecasts])]
    if made.last:
        where = f"on {made.last.place or HERE}"
        lines += ["", f"the last training of {made.last.module}: {where}, {cost.compared(made.last)}"]
    if made.trouble:
        lines += ["", made.trouble]
    return "\n".join(lines)


def _compared(model: TrainedModel) -> dict[str, Any]:
    """A training as it was predicted and as it was."""
    told = model.model_dump(mode="json", include={"module", "seconds", "cost", "ended", "foreseen"})
    return {"place": model.place or HERE, **told}


def _row(one: Forecast) -> tuple[str, ...]:
    begins = "at once" if one.start_seconds == 0 else f"in {in_words(one.start_seconds)}"
    takes, costs = "-", "-"
    if one.estimate is not None:
        takes = in_words(one.estimate.seconds)
        low, high = in_words(one.estimate.low), in_words(one.estimate.high)
        takes += f" ({low} to {high})" if low != high else ""
    elif one.said:
        takes = "unknown"
    if one.cost is not None:
        costs = f"{one.cost:.2f}"
    why = one.reason.partition(": ")[2] + (f"; {one.said}" if one.said else "")
    return "->" if one.chosen else "", one.pool, "-" if one.start_seconds is None else begins, takes, costs, why


async def _dataset(store: Store, home: Home, source: str, options: dict[str, Any]) -> tuple[Dataset | None, StagePlan]:
    """The dataset if it was prepared before, under the key by which `tasks.data` finds it."""
    from volvox.cancelling import in_thread
    from volvox.data.sources import find_source

    sha256 = options.pop("sha256", "")
    found = await in_thread(lambda _: find_source(source, home, sha256))
    fingerprint = await in_thread(found.fingerprint)
    asked = {"source": fingerprint, "options": asdict(Options(**options))}
    kept = _kept(store, "data", stage_key("data", code=FORMAT, arguments=asked), Dataset)
    if kept is None:
        return None, StagePlan("data", "runs", f"{found.shown} was not read before, or has changed")
    images = sum(kept.total(part) for part in kept.counts)
    return kept, StagePlan("data", "reused", f"{images} images in {len(kept.classes)} classes")


def _model(
    store: Store, module: discovery.Module, dataset: Dataset | None, arguments: dict[str, Any], weights: str
) -> TrainedModel | None:
    """The model if it was trained before, under the key by which `tasks.training` finds it."""
    if dataset is None:
        return None
    from tasks.training import training_key

    return _kept(store, "training", training_key(module.code, dataset, arguments, weights), TrainedModel)


def _training(model: TrainedModel | None, rows: list[Forecast]) -> StagePlan:
    if model is not None:
        return StagePlan("training", "reused", f"trained before, which took {in_words(model.seconds)}")
    chosen = next((row for row in rows if row.chosen), None)
    if chosen is None:
        return StagePlan("training", "depends", "no pool can take it now, see below")
    takes = f", about {in_words(chosen.estimate.seconds)}" if chosen.estimate else ""
    return StagePlan("training", "runs", f"on {chosen.pool}{takes}")


def _after_training(
    store: Store, name: str, model: TrainedModel | None, dataset: Dataset | None, image: bool
) -> list[StagePlan]:
    later = ("registration", "packaging", "publication", "serving", "inference")
    if model is None or dataset is None:
        plans = [StagePlan("evaluation", "runs", "the model is new")]
        plans += [StagePlan(stage, "depends", "on what the gate says") for stage in later]
    else:
        from tasks.evaluation import evaluation_key

        scored = _kept(store, "evaluation", evaluation_key(model, dataset), Evaluation)
        plans = [
            StagePlan("evaluation", "reused", "scored before")
            if scored
            else StagePlan("evaluation", "runs", "the model was not scored on this data")
        ]
        champion = _kept(store, "champion", name, ModelVersion)
        if champion is not None and champion.model == model.digest:
            plans.append(StagePlan("registration", "reused", f"it is {name}/{champion.version} already"))
            plans += [StagePlan(stage, "depends", "reused if what it made is still there") for stage in later[1:]]
        else:
            plans += [StagePlan(stage, "depends", "on what the gate says") for stage in later]
    if not image:
        plans[2] = StagePlan("packaging", "runs", "keeps the build context only")
    return plans


def _weights(store: Store, start_from: str) -> str:
    if not start_from:
        return ""
    from volvox.published import published_version

    return published_version(store, start_from).weights_tree


def _kept(store: Store, stage: str, key: str, record: Any) -> Any:
    from tasks.reuse import find

    return find(store, stage, key, record)


def _last(module: str, models: list[TrainedModel], datasets: list[Dataset]) -> TrainedModel | None:
    samples = {dataset.digest for dataset in datasets if is_sample(dataset)}
    told = [one for one in models if one.module == module and one.dataset not in samples and one.cost is not None]
    return max(told, key=lambda one: one.ended or _EARLY, default=None)


async def _states(home: Home, pools: Mapping[str, PoolDefinition]) -> tuple[dict[str, PoolState], str]:
    from volvox.pools.states import states_at
    from volvox.stack.state import addresses

    url = addresses(home).get("prefect", "")
    if not url:
        down = {name: PoolState(online=False) for name in pools if name != HERE}
        return down, "no Prefect server runs here, so no worker does; `volvox up` starts both"
    try:
        return await states_at(f"{url.removesuffix('/api')}/api", [name for name in pools if name != HERE]), ""
    except VolvoxError as error:
        return {}, str(error)


def _images(source: str, options: Mapping[str, Any]) -> int | None:
    """About how many images a folder of this machine would give to training; None for what is not here."""
    from volvox.data.layouts import SUFFIXES

    folder = Path(source.removeprefix("file://")).expanduser()
    if not folder.is_dir():
        return None
    count = sum(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))
    train, *_ = options.get("fractions") or Options().fractions
    return round(count * train) or None

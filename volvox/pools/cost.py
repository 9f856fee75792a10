"""How long a training will take on each pool and what that costs, from earlier trainings of the same module.

The time of a training is taken for a start (imports, reading the data) and so much for each image of each epoch. Both
are fitted to what was measured on that very place: a GPU's time says nothing about a CPU's, so where a module never
ran nothing is guessed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volvox.data.sample import is_sample
from volvox.foreseen import Foreseen
from volvox.pools.definition import HERE, PoolDefinition
from volvox.pools.needs import Needs
from volvox.pools.placement import Candidate, PoolState, candidates, place
from volvox.records import Dataset, TrainedModel

# What modules call the number of passes over the data.
EPOCHS = ("epochs", "num_epochs", "n_epochs", "nb_epochs")
# Arguments that change what is learned and not how long an image takes.
_NOT_SPEED = {*EPOCHS, "seed", "patience", "lr", "learning_rate", "initial_lr", "weight_decay", "momentum", "dropout"}
_LEAST_SPREAD = 1.5  # a start and a speed are told apart only by trainings that differ in size


@dataclass(frozen=True)
class EarlierRun:
    """One training that was done.

    Attributes:
        place: Pool it ran on; `here`: in the cycle's own process.
        seconds: How long it took, without the start of its container.
        images: Images it learned from.
        epochs: How often it saw each, or None where the module does not say.
        arguments: What it was asked to do.
        processes: How many did it together.
        sample: Whether it was done to find out how long it takes, so that its epochs are nobody's choice.
    """

    place: str
    seconds: float
    images: int
    epochs: float | None
    arguments: Mapping[str, Any]
    processes: int = 1
    sample: bool = False

    @property
    def work(self) -> float:
        """Images times epochs."""
        return self.images * (self.epochs or 1)


@dataclass(frozen=True)
class Training:
    """The training that is asked about.

    Attributes:
        images: Images it will learn from, or None where nobody knows yet.
        arguments: What it is asked to do.
        processes: How many will do it together.
    """

    images: int | None
    arguments: Mapping[str, Any]
    processes: int = 1


@dataclass(frozen=True)
class Estimate:
    """A predicted time.

    Attributes:
        seconds: Of the training alone.
        low: The lower end of what earlier runs vary by.
        high: The upper end.
        said: What it was predicted from.
    """

    seconds: float
    low: float
    high: float
    said: str


@dataclass(frozen=True)
class Forecast:
    """One pool of a dry run.

    Attributes:
        pool: Its name.
        chosen: Whether the training would go there.
        usable: Whether it could.
        reason: Why, or why not, in a sentence that begins with the pool's name.
        start_seconds: From now to the first line of user code, or None where that is not known.
        estimate: The training's time, or None where the module never ran there.
        cost: Of the start and the training, in the operator's currency, or None.
        said: What time and cost were predicted from, or why they are unknown.
    """

    pool: str
    chosen: bool
    usable: bool
    reason: str
    start_seconds: float | None
    estimate: Estimate | None
    cost: float | None
    said: str


def earlier_runs(
    module: str,
    models: Iterable[TrainedModel],
    datasets: Iterable[Dataset],
    defaults: Mapping[str, Any] | None = None,
) -> list[EarlierRun]:
    """What is known of a module's trainings.

    Args:
        module: Its name; the code may be another release's.
        models: Records of trainings.
        datasets: Records of what they learned from; a training on none of them says nothing.
        defaults: What the module does where it is not asked.
    """
    known = list(datasets)
    images = {dataset.digest: dataset.total("train") for dataset in known}
    samples = {dataset.digest for dataset in known if is_sample(dataset)}
    return [
        EarlierRun(
            place=model.place or HERE,
            seconds=model.seconds,
            images=images[model.dataset],
            epochs=_epochs(model.metrics) or _epochs({**(defaults or {}), **model.arguments}),
            arguments=model.arguments,
            processes=model.processes,
            sample=model.dataset in samples,
        )
        for model in models
        if model.module == module and model.seconds > 0 and images.get(model.dataset)
    ]


def estimate(training: Training, runs: Sequence[EarlierRun]) -> Estimate | None:
    """How long a training takes, from runs at the place in question.

    None if there are none, or nobody knows how many images there are or how many epochs the module will take.

    Runs with the same arguments but for those that change no speed, and in as many processes, count alone where there
    are any.
    """
    if not runs or not training.images:
        return None
    alike = _alike(training, runs)
    used = alike or list(runs)
    epochs = _epochs(training.arguments)
    guessed = ""
    if epochs is None:
        known = [run.epochs for run in used if run.epochs and not run.sample]
        if not known and any(run.epochs for run in used):
            return None
        epochs = statistics.median(known) if known else None
        guessed = f", if it takes {epochs:g} epochs as before" if epochs else ""
    work = training.images * (epochs or 1)
    used = _undisturbed(used)
    start, each = _fitted(used)
    seconds = start + each * work
    ratios = [run.seconds / max(start + each * run.work, 1e-9) for run in used]
    with_what = "the same" if alike else "other"
    said = f"from {len(used)} {'run' if len(used) == 1 else 'runs'} there with {with_what} arguments{guessed}"
    if len(used) == 1 and used[0].sample:
        said += "; what of it was the start is not known, so rather less"
    return Estimate(seconds, seconds * min(1.0, *ratios), seconds * max(1.0, *ratios), said)


def forecasts(
    needs: Needs,
    pools: Mapping[str, PoolDefinition],
    states: Mapping[str, PoolState],
    *,
    training: Training,
    runs: Sequence[EarlierRun],
    stated: str = "",
) -> list[Forecast]:
    """One row a pool, the chosen one first: whether it fits, when it would begin, how long it takes, what it costs.

    Args:
        needs: As for `place`.
        pools: As for `place`.
        states: As for `place`.
        training: What is asked about.
        runs: Earlier runs of the module, of all places.
        stated: A pool that somebody chose.

    Raises:
        NotFound: As `place` does; what does not fit or is down is a row here and no error.
    """
    from volvox.errors import NoPoolFits, PoolDown

    try:
        chosen = place(needs, pools, states, stated).pool
    except (NoPoolFits, PoolDown):
        chosen = ""
    here = estimate(training, [run for run in runs if run.place == HERE])
    rows = [
        _forecast(
            one, pools[one.pool], states.get(one.pool), training=training, here=here, chosen=chosen,
            runs=runs_at(pools[one.pool], pools, runs),
        )
        for one in candidates(needs, pools, states)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: not row.chosen)


def _forecast(
    seen: Candidate,
    pool: PoolDefinition,
    state: PoolState | None,
    *,
    training: Training,
    runs: Sequence[EarlierRun],
    here: Estimate | None,
    chosen: str,
) -> Forecast:
    made = estimate(training, runs) if not seen.lacks else None
    if made is not None:
        said = made.said
    elif seen.lacks:
        said = ""
    elif training.images is None:
        said = "unknown: nobody knows yet how many images there are"
    elif runs:
        said = _an_epoch(training, runs)
    elif here is not None:
        said = f"unknown: never ran there; like here: about {in_words(here.seconds)}"
    else:
        said = "unknown: never ran there"
    start = _start(pool, state, made or here)
    cost = None
    if made is not None:
        cost = price(pool, pool.startup_seconds + made.seconds)
    elif not seen.lacks and pool.cost_per_hour == 0:
        cost = 0.0
    return Forecast(
        pool=pool.name, chosen=pool.name == chosen, usable=seen.usable, reason=seen.reason,
        start_seconds=start if seen.usable else None, estimate=made, cost=cost, said=said,
    )  # fmt: skip


def _start(pool: PoolDefinition, state: PoolState | None, made: Estimate | None) -> float | None:
    """A run that waits for others is taken to wait for runs like itself."""
    wait = state.expected_wait if state else 0.0
    if not wait:
        return pool.startup_seconds
    return None if made is None else pool.startup_seconds + wait * made.seconds


def runs_at(pool: PoolDefinition, pools: Mapping[str, PoolDefinition], runs: Sequence[EarlierRun]) -> list[EarlierRun]:
    """The runs that say how fast `pool` is: its own, and for a pool of processes all that this machine did."""
    names = {pool.name}
    if pool.type == "process":
        names |= {HERE, *(name for name, other in pools.items() if other.type == "process")}
    return [run for run in runs if run.place in names]


def price(pool: PoolDefinition, seconds: float) -> float:
    """What so many seconds of one job of `pool` cost, in the operator's currency."""
    return seconds / 3600 * pool.cost_per_hour


def foreseen(
    pool: PoolDefinition, pools: Mapping[str, PoolDefinition], training: Training, runs: Sequence[EarlierRun]
) -> Foreseen | None:
    """What a training on `pool` is thought to take and to cost; None where nothing is known."""
    made = estimate(training, runs_at(pool, pools, runs))
    if made is None:
        return None
    return Foreseen(
        seconds=made.seconds, low=made.low, high=made.high, said=made.said,
        cost=price(pool, pool.startup_seconds + made.seconds),
    )  # fmt: skip


def compared(model: TrainedModel) -> str:
    """What a training took and cost beside what was predicted: `43 s (40 s predicted), cost 0.02 (0.02 predicted)`."""
    thought = model.foreseen
    took = in_words(model.seconds) + (f" ({in_words(thought.seconds)} predicted)" if thought else "")
    if model.cost is None:
        return f"{took}, cost unknown"
    return f"{took}, cost {model.cost:.2f}" + (f" ({thought.cost:.2f} predicted)" if thought else "")


def in_words(seconds: float | None) -> str:
    """A duration as people say it."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _undisturbed(runs: list[EarlierRun]) -> list[EarlierRun]:
    """Without samples that took longer than a larger one did: their machine had something else to do."""
    samples = [run for run in runs if run.sample]
    return [
        run
        for run in runs
        if not run.sample or not any(run.work < other.work and run.seconds > other.seconds for other in samples)
    ]


def _fitted(runs: Sequence[EarlierRun]) -> tuple[float, float]:
    """Seconds of the start, and of each image of each epoch; neither is negative."""
    work, seconds = [run.work for run in runs], [run.seconds for run in runs]
    if max(work) >= _LEAST_SPREAD * min(work):
        middle, mean = statistics.fmean(work), statistics.fmean(seconds)
        spread = sum((one - middle) ** 2 for one in work)
        each = sum((one - middle) * (took - mean) for one, took in zip(work, seconds, strict=True)) / spread
        start = mean - each * middle
        if each > 0 and start >= 0:
            return start, each
    return 0.0, statistics.median(took / one for one, took in zip(work, seconds, strict=True))


def _epochs(told: Mapping[str, Any]) -> float | None:
    for name in EPOCHS:
        value = told.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
    return None


def _alike(training: Training, runs: Sequence[EarlierRun]) -> list[EarlierRun]:
    return [run for run in runs if _speed(run) == _speed(training)]


def _an_epoch(training: Training, runs: Sequence[EarlierRun]) -> str:
    """What is known of a training whose module chooses its epochs itself; empty if nothing is."""
    if not runs or not training.images:
        return ""
    start, each = _fitted(_undisturbed(_alike(training, runs) or list(runs)))
    return f"about {in_words(start)} and {in_words(each * training.images)} an epoch, as many as the module chooses"


def _speed(asked: EarlierRun | Training) -> dict[str, Any]:
    told = {name: value for name, value in asked.arguments.items() if name not in _NOT_SPEED and value is not None}
    return {**told, "processes of volvox": asked.processes}

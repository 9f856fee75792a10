"""Time a module on this data where it never ran, by trainings of a moment, so that a dry run can tell of a long one.

They are trainings like any other, of a few of the images: their records are what the forecast reads. Each place gets a
sample of its own, or the second place would find done what the first one did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.store import ObjectStore
from blocks.tracking import Tracking
from flows.forecasting import epochs_argument
from flows.placing import Places
from flows.stages import Stages
from flows.training import training
from volvox import progress
from volvox.data.sample import sample
from volvox.errors import VolvoxError
from volvox.modules import discovery
from volvox.pools.calibrating import FIRST_SECONDS, IMAGES, LATER_SECONDS, TRIES, next_size, places
from volvox.pools.definition import HERE, PoolDefinition
from volvox.pools.needs import Needs, needs_of
from volvox.records import Dataset, ModelVersion, TrainedModel
from volvox.settings import Home
from volvox.stack import stack

_WORKERS_SECONDS = 20.0  # those of a stack that was just started
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Asked:
    """The training that is to be foretold.

    Attributes:
        dataset: What it would learn from.
        module: Which module learns.
        arguments: What it is asked to do.
        start_from: Whose weights it would start from.
        processes: How many processes would train together.
        nodes: On how many machines they would.
        place: The pool that somebody stated for it, or empty.
    """

    dataset: Dataset
    module: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    start_from: ModelVersion | None = None
    processes: int = 1
    nodes: int = 1
    place: str = ""


async def calibrate(asked: Asked, home: Home, store: ObjectStore) -> dict[str, str]:
    """Time the module at each place, one after the other.

    Args:
        asked: What is to be foretold.
        home: Whose pools.
        store: Where records are kept.

    Returns:
        Place -> what was measured, or why nothing was.
    """
    found = discovery.find(asked.module)
    known = Places({"training": asked.place} if asked.place else {}, home, store.open()).definitions(asked.nodes)
    epochs = next(iter(await epochs_argument(found, home)), "")
    said: dict[str, str] = {}
    await Tracking.local().activate()  # a server that is only starting would be taken for the module's own start
    for name in await _places(needs_of(found, "training"), known, asked.place, home):
        try:
            done = await _timed(asked, name, epochs, home, store)
            said[name] = ", ".join(f"{size} images in {seconds:.1f} s" for size, seconds in done)
        except TimeoutError:
            said[name] = f"not timed: one pass over {IMAGES} images takes longer than {FIRST_SECONDS:.0f} s there"
        except VolvoxError as error:
            said[name] = f"not timed: {error}"
    return said


async def _places(needs: Needs, pools: Mapping[str, PoolDefinition], stated: str, home: Home) -> list[str]:
    """The places that can be timed; workers that are starting are waited for."""
    from prefect.client.orchestration import get_client

    from flows.pool_states import pool_states
    from volvox.pools.placement import PoolState

    wanted = set(places(needs, pools, {name: PoolState(online=True) for name in pools}, stated))
    if wanted - {HERE}:
        with contextlib.suppress(VolvoxError):  # of another machine, or ended: the server says who works
            await stack.wait_ready_async(home, "worker")
    deadline = asyncio.get_running_loop().time() + _WORKERS_SECONDS
    async with get_client() as client:
        while True:
            found = places(needs, pools, await pool_states(client, [name for name in pools if name != HERE]), stated)
            if wanted <= set(found) or asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(_LOOK_SECONDS)


async def _timed(asked: Asked, pool: str, epochs: str, home: Home, store: ObjectStore) -> list[tuple[int, float]]:
    """Images, times passes, and seconds of trainings of growing size at one place.

    A module whose passes nobody can choose gets more images instead.
    """
    total = asked.dataset.total("train")
    most = None if epochs else max(1, total // IMAGES)
    done: list[tuple[int, float]] = []
    size: int | None = 1
    while size is not None and len(done) < TRIES:
        images, more = (IMAGES, {epochs: size}) if epochs else (IMAGES * size, {})
        try:
            async with asyncio.timeout(LATER_SECONDS if done else FIRST_SECONDS):
                made = await _train(asked, pool, images, more, home=home, store=store)
        except TimeoutError:
            if not done:
                raise
            break  # what is known already is worth something
        done.append((min(images, total) * (size if epochs else 1), made.seconds))
        progress.note(f"{pool}: {done[-1][0]} images in {made.seconds:.1f} s")
        size = next_size(done[0][1], made.seconds, size, most)
    return done


async def _train(
    asked: Asked, pool: str, images: int, more: Mapping[str, Any], *, home: Home, store: ObjectStore
) -> TrainedModel:
    opened = store.open()
    part = await asyncio.to_thread(sample, asked.dataset, opened, images, pool)
    with Stages(Places({"training": pool}, home, opened), opened) as stages:
        return await stages.run(
            training, part, module=asked.module, arguments={**asked.arguments, **more}, name="calibration",
            start_from=asked.start_from, store=store, tracking=Tracking.local(), processes=asked.processes,
            nodes=asked.nodes,
        )  # fmt: skip

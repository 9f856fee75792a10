"""One user's many files do not hold up another's few, and a function's limits hold, through the dispatcher."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.volvox.dispatch.conftest import Site, Tame, dispatching
from volvox.inbox import Arrival
from volvox.runtimes.interface import Call, Outcome

SCRIPT: dict[str, Any] = {"model": "", "image": "busybox"}


@dataclass
class Counting(Tame):
    """Knows how many of each user's files it is at, and the most there were."""

    seconds: float = 0.05
    now: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)

    async def _one(self, call: Call) -> Outcome:
        self.now[call.user] += 1
        self.most |= self.now
        try:
            return await super()._one(call)
        finally:
            self.now[call.user] -= 1
            self.order.append(call.user)


def dropped(site: Site, *names: str) -> None:
    """Files that come at one moment."""
    for name in names:
        (site.source / name).parent.mkdir(exist_ok=True)
        (site.source / name).write_bytes(b"abc")
    site.inbox.record([Arrival(f"file://{site.source}", name) for name in names])


async def both(site: Site, runtime: Counting, **more: Any) -> list[str]:
    """Fifty files of one user, then two of another; whose were answered, in this order."""
    inputs = [{"url": str(site.source), "per_user": True}]
    dropped(site, *(f"ann/{number:02}" for number in range(50)))
    async with dispatching(site, runtime, inputs=inputs, **more) as here:
        await here.until(lambda: runtime.order)  # those of the first are under way
        await asyncio.to_thread(dropped, site, "bob/0", "bob/1")
        jobs = await here.ended(52)
        assert {job.state for job in jobs} == {"SUCCEEDED"}
        assert len([*site.target.rglob("*.json")]) == 52
    return runtime.order


@pytest.mark.parametrize("kind", [{"scaling": {"max_scale": 4}}, {**SCRIPT, "scaling": {"max_scale": 4}}])
def test_one_of_a_user_at_a_time(site: Site, kind: dict[str, Any]) -> None:
    async def check() -> None:
        runtime = Counting()
        order = await both(site, runtime, per_user=1, **kind)
        assert runtime.most == {"ann": 1, "bob": 1}
        last = max(place for place, user in enumerate(order) if user == "bob")
        assert order[: last + 1].count("ann") < 25, "they did not wait for the other's files"

    asyncio.run(check())


@pytest.mark.parametrize("kind", [{"scaling": {"batch": 4}}, SCRIPT])
def test_without_a_limit_users_take_turns(site: Site, kind: dict[str, Any]) -> None:
    async def check() -> None:
        order = await both(site, Counting(), **kind)
        last = max(place for place, user in enumerate(order) if user == "bob")
        assert order[: last + 1].count("ann") < 25

    asyncio.run(check())


def test_a_limit_a_user_leaves_places_to_others(site: Site) -> None:
    """Three at a time of each; nobody's files have no limit."""

    async def check() -> None:
        runtime = Counting(seconds=0.4)  # so long that the others are begun meanwhile, however busy the machine is
        inputs = [{"url": str(site.source), "per_user": True}]
        more = {**SCRIPT, "per_user": 3, "scaling": {"max_scale": 16}, "inputs": inputs}
        names = [[f"ann/{number}", f"bob/{number}", f"nobody's {number}"] for number in range(20)]
        dropped(site, *(name for several in names for name in several))
        async with dispatching(site, runtime, **more) as here:
            await here.ended(60)
            assert runtime.most["ann"] == runtime.most["bob"] == 3
            assert 3 < runtime.most[""] <= 16

    asyncio.run(check())

"""What is told of a job before it is begun, and its bill after."""

from __future__ import annotations

import asyncio
import heapq
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.volvox.dispatch.conftest import Site, Tame, dispatching, function
from volvox.disks import replace_text
from volvox.dispatch import calls
from volvox.dispatch.foreseeing import Seen, begins_in, bill, foreseen, from_state
from volvox.dispatch.job_commands import jobs
from volvox.dispatch.lane import as_told
from volvox.dispatch.state import deployed, state_file
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.pools import files
from volvox.pricing.charges import Charge
from volvox.runtimes.interface import Instance, Outcome, Status
from volvox.settings import Home

PRICED = Charge(second=0.01, call=0.5, currency="EUR")


def script(**more: Any) -> Function:
    return Function.model_validate({"name": "f", "image": "example/f", **more})


@pytest.mark.parametrize(
    ("seen", "ahead", "scaling", "wait"),
    [
        (Seen(0, 1, 10, 3), 0, {}, 0),  # a free instance
        (Seen(0, 0, 10, 3), 0, {}, 3),  # a cold start
        (Seen(1, 1, 10, 3), 0, {}, 10),  # it is at another
        (Seen(1, 1, 10, 3), 4, {}, 50),
        (Seen(2, 2, 10, 3), 3, {"max_scale": 2}, 20),
        (Seen(0, 2, 10, 3), 1, {"max_scale": 2}, 0),
        (Seen(1, 1, 10, 3), 4, {"max_scale": 4}, 13),  # three more start, as the policy will have it: 3, 3, 3, 10, 13
        (Seen(1, 1, 10, 30), 4, {"max_scale": 4}, 40),  # one more does: 10, 20, 30, 30, 40
        (Seen(1, 1, 10, 30), 2, {"max_scale": 4}, 30),  # none does: it would come too late
        (Seen(4, 1, 10, 30), 4, {"max_scale": 4, "concurrency": 4}, 12.5),
    ],
)
def test_a_wait_is_foreseen_from_instances_and_the_jobs_before(
    seen: Seen, ahead: int, scaling: dict[str, int], wait: float
) -> None:
    model = Function.model_validate({"name": "f", "model": "digits", "scaling": {"batch": 1, **scaling}})
    assert foreseen(model, seen, ahead)["wait_seconds"] == pytest.approx(wait)


def test_a_script_has_a_container_for_each_job_and_waits_for_its_start() -> None:
    asked = script(scaling={"max_scale": 3})
    assert foreseen(asked, Seen(0, 0, 9, 2), 2)["wait_seconds"] == 2
    assert foreseen(asked, Seen(0, 0, 9, 2), 3)["wait_seconds"] == pytest.approx(2 + 11)
    waits = [foreseen(asked, Seen(2, 0, 7, 5), ahead)["wait_seconds"] for ahead in range(60)]
    assert waits == sorted(waits)


@given(
    st.integers(0, 60), st.lists(st.integers(0, 300).map(lambda tenths: tenths / 10), min_size=1, max_size=9),
    st.integers(1, 200).map(lambda tenths: tenths / 10),
)  # fmt: skip
def test_a_turn_comes_as_slots_become_free(ahead: int, ready: list[float], run: float) -> None:
    free = sorted(ready)
    for _ in range(ahead):
        heapq.heapreplace(free, free[0] + run)
    assert begins_in(ahead, ready, run) == pytest.approx(free[0], abs=0.01)


def test_a_cost_is_foreseen_by_the_price_and_a_start_is_paid() -> None:
    model = Function(name="f", model="digits")
    assert foreseen(model, Seen(0, 1, 10, 3, PRICED), 0)["cost"] == pytest.approx(10 * 0.01 + 0.5)
    told = foreseen(model, Seen(0, 0, 10, 3, PRICED), 0)
    assert told["cost"] == pytest.approx(13 * 0.01 + 0.5)
    assert told["currency"] == "EUR"
    assert foreseen(script(), Seen(0, 1, 10, 3, None), 0)["cost"] is None


def test_nothing_is_foreseen_of_what_never_ran_unless_its_owner_says() -> None:
    assert foreseen(script(), Seen(), 0) == {}
    told = foreseen(script(placement={"call_seconds": 8}), Seen(start_seconds=2), 0)
    assert (told["wait_seconds"], told["run_seconds"]) == (2, 8)
    assert told["said"] == "as placement.call_seconds says"


def test_jobs_that_were_done_together_share_the_bill() -> None:
    outcomes = [Outcome("a", seconds=3, started_seconds=1), Outcome("b", seconds=4)]
    assert bill(outcomes, PRICED, {}) == {"cost": pytest.approx(4 * 0.01 / 2 + 0.5), "currency": "EUR"}


def test_a_second_attempt_adds_to_the_bill_and_none_that_reached_no_instance() -> None:
    once = bill([Outcome("a", "gone", seconds=3)], PRICED, {})
    twice = bill([Outcome("a", seconds=3)], PRICED, once)
    assert twice["cost"] == pytest.approx(2 * once["cost"])
    assert bill([Outcome("a", "transient")], PRICED, once) == once
    assert bill([Outcome("a", seconds=3)], None, {}) == {}


def priced(home: Home, hour: float) -> None:
    files.enable(home, "local", {"cost_per_hour": hour})


def test_a_job_says_what_was_foreseen_and_what_it_took_and_cost(site: Site) -> None:
    priced(site.home, 3600.0)  # one a second

    async def scenario() -> None:
        async with dispatching(site, Tame(seconds=0.2), model="", image="example/f", command=["f"]) as running:
            running.drop("first.png")
            [first] = await running.ended(1)
            assert first.foreseen == {}
            running.drop("second.png")
            _, second = await running.ended(2)
            assert first.bill == {"cost": pytest.approx(0.2), "currency": ""}
            assert second.bill == {"cost": pytest.approx(0.2), "currency": ""}
            assert second.foreseen["run_seconds"] == pytest.approx(0.2)
            assert second.foreseen["cost"] == pytest.approx(0.2)
            assert second.foreseen["said"] == "from its last jobs"

    asyncio.run(scenario())
    newest, oldest = site.inbox.jobs()
    told = CliRunner().invoke(jobs, ["show", newest.id]).output
    assert "  foreseen: wait 0.000 s, run 0.200 s, cost 0.200000 (from its last jobs)" in told
    assert ", cost 0.200000, attempt 1" in told
    values = json.loads(CliRunner().invoke(jobs, ["show", oldest.id, "--json"]).output)
    assert values["foreseen"] is None
    assert values["cost"] == pytest.approx(0.2)


def test_jobs_that_come_together_are_foreseen_one_after_the_other(site: Site) -> None:
    async def scenario() -> None:
        more = {"model": "", "image": "example/f", "command": ["f"], "placement": {"call_seconds": 5}}
        async with dispatching(site, **more) as running:
            lane = running.dispatcher.lanes["f"]
            lane.there = 1
            for number in range(5):
                running.drop(f"{number}.png")
            await running.ended(5)

    asyncio.run(scenario())
    waits = sorted(job.foreseen["wait_seconds"] for job in site.inbox.jobs())
    assert waits[0] == 0
    assert {round(wait) for wait in waits} <= {0, 5, 10, 15, 20, 25}


def test_where_nobody_knows_the_price_jobs_are_done_all_the_same(site: Site) -> None:
    (site.home.root / "prices.yaml").write_text("lambda: {gb_second: dear}\n")

    async def scenario() -> None:
        async with dispatching(site) as running:
            running.drop("a.png")
            [job] = await running.ended(1)
            assert job.state == "SUCCEEDED"
            assert job.bill == {}

    asyncio.run(scenario())
    told = CliRunner().invoke(jobs, ["show", site.inbox.jobs()[0].id]).output
    assert "cost" not in told


def test_a_call_is_foreseen_from_what_the_dispatcher_told_others(site: Site) -> None:
    registry.apply_all(site.home, [function(site, model="", image="example/f", command=["f"])])
    state_file(site.home).parent.mkdir(parents=True, exist_ok=True)
    lane = {"function": "f", "at_work": 0, "job_seconds": 2.0, "cold_start_seconds": 1.5, "instances": [],
            "charge": asdict(PRICED)}  # fmt: skip
    replace_text(state_file(site.home), json.dumps({"functions": [lane], "troubles": {}}))
    handed = calls.place_for(site.home, "a.png")
    handed.path.write_bytes(b"abc")
    job = calls.call(site.home, site.inbox, "f", handed)
    assert job.foreseen["wait_seconds"] == 1.5
    assert job.foreseen["cost"] == pytest.approx(3.5 * 0.01 + 0.5)


def test_what_the_dispatcher_tells_others_is_what_it_foresees_by_itself(site: Site) -> None:
    priced(site.home, 36.0)

    async def scenario() -> None:
        async with dispatching(site) as running:
            running.drop("a.png")
            await running.ended(1)
            lane = running.dispatcher.lanes["f"]
            lane.job_seconds, lane.start_seconds = 2.0, 1.5
            ready, busy, starting = (Instance(str(each), "v1", each, 0.0) for each in ("ready", "busy", "starting"))
            running.runtime.status = lambda name: answer(Status("ready", instances=(ready, busy, starting)))
            told = json.loads(json.dumps(await as_told(lane)))
            assert from_state({"functions": [told]}, "f") == lane.seen
            assert (lane.seen.instances, lane.seen.charge) == (2, Charge(0.01, 0.01, said="36 an hour"))

    asyncio.run(scenario())


async def answer(status: Status) -> Status:
    return status


def test_a_function_that_the_dispatcher_never_told_of_is_not_known(tmp_path: Path) -> None:
    assert from_state(deployed(Home(tmp_path)), "f") == Seen(charge=None)

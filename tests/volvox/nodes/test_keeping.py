"""The nodes of a made-up cloud, which are processes that really run, whatever is killed, breaks or never comes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.volvox.nodes.conftest import MakeKeeper, Time
from tests.volvox.nodes.made_up import MadeUp
from volvox.nodes.keeping import Keeper, Need
from volvox.nodes.ledger import path_of, read_ledger
from volvox.nodes.telling import coming, groups_as_json, why_no_node
from volvox.settings import Home

NOTHING = Need()


def jobs(waiting: int, under_way: int = 0, seconds: float = 10.0) -> Need:
    return Need(waiting + under_way, under_way, seconds, most_instances=100)


def look(keeper: Keeper, need: Need = NOTHING, times: int = 1) -> dict[str, str]:
    """Let it look; the states of its nodes by name."""

    async def looked() -> None:
        for _ in range(times):
            await keeper.once(need)

    asyncio.run(looked())
    return {node.name: node.state for node in keeper.ledger.nodes}


def test_the_first_job_starts_the_first_node_and_others_come_only_if_they_are_in_time(
    make: MakeKeeper, cloud: MadeUp
) -> None:
    keeper = make(most=4, boot_seconds=60)
    assert look(keeper) == {}
    assert look(keeper, jobs(1), times=3) == {"a-1": "booting"}
    assert cloud.asked() == ["start a-1"], "one that was asked for and is not there yet is not asked for twice"
    assert len(cloud.running()) == 1
    cloud.comes("a-1")
    assert look(keeper, jobs(6)) == {"a-1": "on"}, "the last would begin in 50 s, and a boot takes 60"
    assert look(keeper, jobs(20)) == {"a-1": "on", "a-2": "booting", "a-3": "booting", "a-4": "booting"}
    assert "20 wait; the last would begin in 190 s on the nodes there are (1), and another takes" in (
        keeper.ledger.nodes[1].why
    )


def test_the_boot_that_was_seen_counts_for_the_next_decision(make: MakeKeeper, cloud: MadeUp, clock: Time) -> None:
    keeper = make(most=4, boot_seconds=600)
    look(keeper, jobs(1))
    clock.now += 20
    cloud.comes("a-1")
    look(keeper, jobs(6))
    assert keeper.boot_seconds == 20
    assert look(keeper, jobs(6)) == {"a-1": "on", "a-2": "booting", "a-3": "booting"}, "50 s on one, 25 s on two"


def test_one_that_has_nothing_to_do_is_stopped_down_to_the_least_and_one_at_work_never(
    make: MakeKeeper, cloud: MadeUp, clock: Time
) -> None:
    keeper = make(most=3, least=1, idle_seconds=100)
    look(keeper, jobs(30))
    cloud.comes("a-1", "a-2", "a-3")
    cloud.works("a-1", 1)
    look(keeper, jobs(0, under_way=1))
    clock.now += 99
    assert look(keeper, jobs(0, under_way=1)) == {"a-1": "on", "a-2": "on", "a-3": "on"}
    clock.now += 1
    look(keeper, jobs(0, under_way=1))
    assert look(keeper, jobs(0, under_way=1)) == {"a-1": "on"}
    assert cloud.asked()[3:] == ["stop a-3", "stop a-2"]
    assert len(cloud.running()) == 1
    clock.now += 1000
    assert look(keeper, jobs(0, under_way=1)) == {"a-1": "on"}, "it is at work"
    cloud.works("a-1", 0)
    look(keeper)
    clock.now += 1000
    assert look(keeper, times=2) == {"a-1": "on"}, "it is the least"


def test_one_that_was_given_work_as_it_was_to_be_stopped_goes_on(make: MakeKeeper, cloud: MadeUp, clock: Time) -> None:
    keeper = make(most=1, idle_seconds=100)
    look(keeper, jobs(1))
    cloud.comes("a-1")
    look(keeper)
    clock.now += 100
    listed = keeper.cloud.nodes

    async def then_work_comes() -> object:
        found = await listed()
        cloud.works("a-1", 2)
        return found

    keeper.cloud.nodes = then_work_comes  # pyright: ignore[reportAttributeAccessIssue]
    assert look(keeper) == {"a-1": "on"}
    assert keeper.ledger.nodes[0].why == "it was to be stopped, and it was given work meanwhile"
    assert cloud.asked() == ["start a-1"]
    assert len(cloud.running()) == 1


def test_without_a_word_on_what_is_at_work_none_is_stopped(make: MakeKeeper, cloud: MadeUp, clock: Time) -> None:
    keeper = make(most=1, idle_seconds=1)
    look(keeper, jobs(1))
    cloud.comes("a-1")
    (cloud.folder / "a-1.work").write_text("")
    for _ in range(3):
        clock.now += 1000
        assert look(keeper) == {"a-1": "on"}
    assert cloud.asked() == ["start a-1"]


def test_a_node_that_never_comes_is_given_up_and_told_and_asked_for_again_later(
    make: MakeKeeper, cloud: MadeUp, clock: Time, home: Home
) -> None:
    keeper = make(most=2, gives_up_seconds=300)
    cloud.becomes("never")
    assert look(keeper, jobs(1)) == {"a-1": "booting"}
    clock.now += 40
    assert why_no_node(home, "f", "local", clock.now) == "a node boots since 40 s (a-1 of group a)"
    assert coming(home, "local", clock)()
    clock.now += 261
    assert look(keeper, jobs(1)) == {"a-1": "failed"}
    (told,) = groups_as_json(home, clock.now)[0]["nodes"]
    assert told["why"].startswith("it was asked for 301 s ago and is not on")
    assert cloud.asked() == ["start a-1", "stop a-1"], "what comes after all is not to cost anything"
    assert "the last node never came; the next one is asked for in 60 s" in why_no_node(home, "f", "local", clock.now)
    assert not coming(home, "local", clock)()
    clock.now += 59
    look(keeper, jobs(1))
    assert len(cloud.asked()) == 2
    clock.now += 2
    cloud.heals("never")
    assert look(keeper, jobs(1)) == {"a-1": "failed", "a-2": "booting"}
    cloud.comes("a-2")
    look(keeper, jobs(1))
    assert keeper.ledger.failures == 0
    clock.now += 3601
    assert look(keeper, jobs(1)) == {"a-2": "on"}


def test_a_cloud_that_refuses_is_asked_again_with_pauses_under_the_same_name(
    make: MakeKeeper, cloud: MadeUp, clock: Time
) -> None:
    keeper = make(most=1)
    start = keeper.cloud.start
    tries: list[str] = []

    async def refused(name: str, total: int) -> None:
        tries.append(name)
        cloud.becomes("breaks", "no more credit")
        try:
            await start(name, total)
        finally:
            cloud.heals("breaks")

    keeper.cloud.start = refused  # pyright: ignore[reportAttributeAccessIssue]
    assert look(keeper, jobs(1), times=4) == {"a-1": "asking"}
    assert tries == ["a-1"]
    assert "it said: no more credit" in keeper.ledger.nodes[0].why
    clock.now += 6
    assert look(keeper, jobs(1), times=4) == {"a-1": "asking"}
    keeper.cloud.start = start  # pyright: ignore[reportAttributeAccessIssue]
    clock.now += 6
    assert look(keeper, jobs(1), times=4) == {"a-1": "booting"}
    assert tries == ["a-1", "a-1"]
    assert len(cloud.running()) == 1


def test_a_list_that_breaks_or_says_nonsense_decides_nothing(make: MakeKeeper, cloud: MadeUp, clock: Time) -> None:
    keeper = make(most=1, idle_seconds=10)
    look(keeper, jobs(1))
    cloud.comes("a-1")
    look(keeper)
    clock.now += 100
    cloud.becomes("breaks", "I am down")
    assert look(keeper) == {"a-1": "on"}
    assert "exit code 3; it said: I am down" in keeper.ledger.trouble
    cloud.heals("breaks")
    cloud.works("a-1", -7)
    assert look(keeper) == {"a-1": "on"}
    assert "print NAME STATE INSTANCES" in keeper.ledger.trouble
    cloud.works("a-1", 0)
    look(keeper)
    assert keeper.ledger.trouble == ""
    assert cloud.running() == []


def test_nodes_that_somebody_else_starts_and_stops_are_taken_as_they_are(
    make: MakeKeeper, cloud: MadeUp, clock: Time
) -> None:
    keeper = make(most=3, idle_seconds=100)
    subprocess.run([*cloud.words("start"), "by-hand"], check=True)
    cloud.comes("by-hand")
    assert look(keeper, jobs(1)) == {"by-hand": "on"}, "a job has a node already"
    os.kill(cloud.running()[0], signal.SIGKILL)
    assert look(keeper, jobs(1)) == {"a-1": "booting"}


def test_a_dispatcher_that_was_killed_between_asking_and_noting_has_asked_once(
    make: MakeKeeper, cloud: MadeUp, home: Home
) -> None:
    make(most=3)
    cloud.becomes("kills")
    program = f"""
import asyncio
from pathlib import Path
from volvox.nodes.cloud import open_cloud
from volvox.nodes.group import read_groups
from volvox.nodes.keeping import Keeper, Need
from volvox.settings import Home

home = Home(Path({str(home.root)!r}))
group = read_groups(home)["a"]
asyncio.run(Keeper(home, group, open_cloud(group), now=lambda: 1000.0).once(Need(1, most_instances=1)))
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[3])
    assert ended.returncode == -signal.SIGKILL
    assert [node.state for node in read_ledger(home, "a").nodes] == ["asking"]
    assert len(cloud.running()) == 1
    keeper = make(most=3)
    assert look(keeper, jobs(1), times=3) == {"a-1": "booting"}
    assert cloud.asked() == ["start a-1"]
    assert len(cloud.running()) == 1


def test_one_that_was_killed_before_the_cloud_heard_anything_asks_under_the_same_name(
    make: MakeKeeper, cloud: MadeUp, home: Home, clock: Time
) -> None:
    keeper = make(most=3)

    async def killed(name: str, total: int) -> None:
        raise asyncio.CancelledError

    keeper.cloud.start = killed  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keeper.once(jobs(1)))
    again = make(most=3)
    assert look(again, jobs(1), times=3) == {"a-1": "asking"}, "what was begun then may be on its way"
    assert cloud.asked() == []
    clock.now += 6
    assert look(again, jobs(1), times=3) == {"a-1": "booting"}
    assert cloud.asked() == ["start a-1"]


def test_one_that_was_to_be_stopped_is_looked_at_again_by_the_next_dispatcher(
    make: MakeKeeper, cloud: MadeUp, clock: Time
) -> None:
    keeper = make(most=2, idle_seconds=100)
    look(keeper, jobs(30))
    cloud.comes("a-1", "a-2")
    look(keeper)
    clock.now += 100

    async def killed(node: str) -> str:
        raise asyncio.CancelledError

    keeper.cloud.leave = killed  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keeper.once(NOTHING))
    cloud.works("a-2", 1)
    clock.now += 10
    again = make(most=2, idle_seconds=100)
    look(again, jobs(0, under_way=1))
    assert look(again, jobs(0, under_way=1)) == {"a-2": "on"}
    assert cloud.asked()[2:] == ["stop a-1"]
    assert len(cloud.running()) == 1


def test_what_is_kept_and_cannot_be_read_is_not_taken_for_nothing(make: MakeKeeper, home: Home) -> None:
    look(make(most=1), jobs(1))
    kept = path_of(home, "a")
    kept.write_text(kept.read_text()[:-10])
    with pytest.raises(ValueError, match=r"line 1 column"):
        make(most=1)
    kept.write_text(json.dumps({"group": "a", "nodes": [{"colour": "red"}]}))
    with pytest.raises(ValueError, match="none of this release"):
        make(most=1)


def test_names_of_machines_that_there_are(make: MakeKeeper, cloud: MadeUp) -> None:
    keeper = make(names=["wn1", "wn2"])
    assert look(keeper, jobs(100)) == {"wn1": "booting", "wn2": "booting"}
    assert cloud.asked() == ["start wn1", "start wn2"]

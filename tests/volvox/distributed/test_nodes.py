import asyncio
import socket

import pytest

from volvox.distributed import channel as channels
from volvox.distributed import nodes
from volvox.distributed.failures import Failure
from volvox.distributed.nodes import First, Group, Other


@pytest.fixture
def group() -> Group:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Group(nodes=2, port=probe.getsockname()[1], token="secret", wait_seconds=10)


def member(group: Group, node: int = 1) -> Other:
    return Other(Group(2, node, 1, group.host, group.port, 0, group.token, group.wait_seconds))


async def met(group: Group) -> tuple[First, Other]:
    first, other = First(group), member(group)
    ports = await asyncio.gather(first.meet(), other.meet())
    assert ports[0] == ports[1]
    return first, other


def test_nodes_that_are_done_wait_for_each_other(group) -> None:
    async def both():
        first, other = await met(group)
        waiting = asyncio.create_task(other.done())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        assert await first.done() is None
        assert await waiting is None
        await asyncio.gather(first.close(), other.close())

    asyncio.run(both())


@pytest.mark.parametrize("failing", [0, 1])
def test_who_is_done_hears_of_a_failure_of_the_other(group, failing) -> None:
    async def both():
        peers = await met(group)
        waiting = asyncio.create_task(peers[1 - failing].done())
        failure = Failure("ended with exit code 7", failing, failing, 7)
        told = await peers[failing].settle([failure])
        assert str(told) == str(await waiting) == str(failure)
        await asyncio.gather(*(peer.close() for peer in peers))

    asyncio.run(both())


@pytest.mark.parametrize("silent", [0, 1])
def test_a_node_that_is_there_but_says_nothing_is_given_up(group, silent, monkeypatch) -> None:
    monkeypatch.setattr(nodes, "_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(nodes, "_BEAT_SECONDS", 0.1)

    async def both():
        peers = await met(group)
        monkeypatch.setattr(channels.Channel, "send", lambda self, message: None)
        await asyncio.wait_for(peers[1 - silent].trouble.wait(), 5)
        monkeypatch.setattr(nodes, "_VERDICT_SECONDS", 0.1)
        failure = await peers[1 - silent].settle([])
        await asyncio.gather(*(peer.close() for peer in peers))
        return str(failure)

    assert asyncio.run(both()) == f"node {silent} has not been heard of for 0.5 s"


def test_a_node_that_was_lost_before_all_were_there_may_come_again(group) -> None:
    async def meeting():
        first = First(Group(3, 0, 1, group.host, group.port, 0, group.token, 10))
        waiting = asyncio.create_task(first.meet())
        others = [Other(Group(3, node, 1, group.host, group.port, 0, group.token, 10)) for node in (1, 1, 2)]
        lost = asyncio.create_task(others[0].meet())
        while 1 not in first._channels:
            await asyncio.sleep(0.01)
        await others[0].close()
        while 1 in first._channels:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.gather(waiting, others[1].meet(), others[2].meet()), 10)
        lost.cancel()
        await asyncio.gather(first.close(), *(other.close() for other in others[1:]))

    asyncio.run(meeting())

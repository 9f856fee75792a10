from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events import Event
from prefect.types._datetime import now

from flows import hearing as module
from flows.hearing import Hearing, hearing
from flows.stage import PROGRESS
from tests.flows.conftest import Installation
from volvox.errors import StageFailed, Unavailable


class Server:
    """A Prefect server made up: runs, who listens to them, and what it was asked."""

    def __init__(self) -> None:
        self.runs: dict[UUID, FlowRun] = {}
        self.clients = 0
        self.clients_open = 0
        self.listening: list[asyncio.Queue[Event | Exception]] = []
        self.subscriptions = 0
        self.asked: list[set[UUID]] = []
        self.answering: Callable[[], Awaitable[None]] | None = None

    def run(self, kind: StateType = StateType.SCHEDULED) -> UUID:
        run = FlowRun(flow_id=uuid4(), state=State(type=kind))
        self.runs[run.id] = run
        return run.id

    def set(self, run_id: UUID, kind: StateType, told: bool = True) -> None:
        self.runs[run_id] = self.runs[run_id].model_copy(update={"state": State(type=kind)})
        if told:
            self.tell(event(run_id, f"prefect.flow-run.{kind.value.title()}", **{"prefect.state-type": kind.value}))

    def tell(self, what: Event | Exception) -> None:
        for listening in self.listening:
            listening.put_nowait(what)

    async def listened_to(self) -> None:
        while not self.listening:
            await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Event]]:
        self.subscriptions += 1
        told: asyncio.Queue[Event | Exception] = asyncio.Queue()

        async def events() -> AsyncIterator[Event]:
            while True:
                one = await told.get()
                if isinstance(one, Exception):
                    raise one
                yield one

        self.listening.append(told)
        try:
            yield events()
        finally:
            self.listening.remove(told)

    # -- as its client ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Server:
        self.clients += 1
        self.clients_open += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.clients_open -= 1

    async def read_flow_runs(self, flow_run_filter: Any, limit: int) -> list[FlowRun]:
        wanted = flow_run_filter.id.any_
        assert limit >= len(wanted)
        self.asked.append(set(wanted))
        found = [self.runs[run_id] for run_id in wanted if run_id in self.runs]
        if self.answering is not None:
            await self.answering()
        return found


def event(run_id: UUID, name: str = PROGRESS, text: str = "", **resource: str) -> Event:
    return Event(
        occurred=now("UTC"), event=name, payload={"kind": "noted", "text": text}, id=uuid4(),
        resource={"prefect.resource.id": f"prefect.flow-run.{run_id}", **resource},
    )  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(module, "get_client", lambda: made)
    monkeypatch.setattr(module, "_subscribed", made.subscribe)
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.0)
    return made


def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are looked at only when an event says that they ended."""
    monkeypatch.setattr(module, "_FIRST_LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 3600.0)


async def ended(run_id: UUID, heard: list[str] | None = None) -> FlowRun:
    async with hearing() as shared:
        return await shared.ended(run_id, lambda one: [] if heard is None else heard.append(one.payload["text"]))


def settled() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # pyright: ignore[reportReturnType]


def test_a_hundred_that_wait_are_one_client_one_subscription_and_few_questions(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_told(monkeypatch)

    async def wait() -> list[FlowRun]:
        runs = [server.run() for _ in range(100)]
        waiting = [asyncio.ensure_future(ended(run_id)) for run_id in runs]
        await server.listened_to()
        for run_id in runs:
            server.set(run_id, StateType.RUNNING)
        for run_id in runs:
            server.set(run_id, StateType.COMPLETED)
        found = await asyncio.gather(*waiting)
        assert [run.id for run in found] == runs
        assert not settled()
        return found

    assert {run.state.type for run in asyncio.run(wait()) if run.state} == {StateType.COMPLETED}
    assert (server.clients, server.subscriptions, server.clients_open, server.listening) == (1, 1, 0, [])
    assert len(server.asked) < 5


def test_each_hears_what_its_own_run_tells(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    only_told(monkeypatch)

    async def wait() -> tuple[list[str], list[str]]:
        one, other = server.run(), server.run()
        heard: tuple[list[str], list[str]] = [], []
        waiting = asyncio.gather(ended(one, heard[0]), ended(other, heard[1]))
        await server.listened_to()
        server.tell(event(one, text="epoch 1"))
        server.tell(event(other, text="epoch 7"))
        server.tell(event(uuid4(), text="of somebody else"))
        server.tell(Event(occurred=now("UTC"), event=PROGRESS, resource={"prefect.resource.id": "else"}, id=uuid4()))
        for run_id in (one, other):
            server.set(run_id, StateType.FAILED)
        await waiting
        return heard

    assert asyncio.run(wait()) == (["epoch 1"], ["epoch 7"])


def test_a_subscription_that_breaks_is_made_again_and_tells_nothing_twice(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_told(monkeypatch)

    async def wait() -> list[str]:
        run_id, heard, told = server.run(), list[str](), event(uuid4())
        told = event(run_id, text="epoch 1")
        waiting = asyncio.ensure_future(ended(run_id, heard))
        for again in range(3):
            await server.listened_to()
            server.tell(told)  # as a server does, of the last minute
            server.tell(event(run_id, text=f"after {again}"))
            server.tell(ConnectionError("the server restarts"))
            while server.listening:
                await asyncio.sleep(0)
        await server.listened_to()
        server.set(run_id, StateType.COMPLETED)
        await waiting
        return heard

    assert asyncio.run(wait()) == ["epoch 1", "after 0", "after 1", "after 2"]
    assert server.subscriptions == 4
    assert server.clients == 1


def test_what_the_subscription_lost_is_found_by_asking(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)

    async def wait() -> FlowRun:
        run_id = server.run(StateType.RUNNING)
        waiting = asyncio.ensure_future(ended(run_id))
        while not server.asked:
            await asyncio.sleep(0)
        server.set(run_id, StateType.CRASHED, told=False)
        return await waiting

    found = asyncio.run(wait())
    assert found.state is not None
    assert found.state.type == StateType.CRASHED


def test_an_end_told_while_the_server_answers_is_not_overlooked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 3600.0)

    async def wait() -> None:
        run_id = server.run(StateType.RUNNING)

        async def ends_meanwhile() -> None:
            server.answering = None
            await server.listened_to()
            server.set(run_id, StateType.COMPLETED)
            for _ in range(10):
                await asyncio.sleep(0)

        server.answering = ends_meanwhile
        await ended(run_id)

    asyncio.run(wait())
    assert len(server.asked) == 2


def test_who_is_cancelled_leaves_nothing_and_the_others_go_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    only_told(monkeypatch)

    async def wait() -> None:
        first, other = server.run(), server.run()
        one, two = asyncio.ensure_future(ended(first)), asyncio.ensure_future(ended(other))
        await server.listened_to()
        one.cancel()  # who opened it
        with pytest.raises(asyncio.CancelledError):
            await one
        assert server.clients_open == 1
        server.set(first, StateType.CANCELLED)  # which nobody waits for
        server.set(other, StateType.COMPLETED)
        assert (await two).id == other
        assert not settled()
        assert server.clients_open == 0

        last = asyncio.ensure_future(ended(other))
        await server.listened_to()
        last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await last
        assert not settled()
        assert server.clients_open == 0

    asyncio.run(wait())
    assert server.clients == 2
    assert server.asked == [{other} for other in server.asked[0]]


def test_two_who_wait_for_one_run_are_both_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    only_told(monkeypatch)

    async def wait() -> list[FlowRun]:
        run_id = server.run()
        waiting = asyncio.gather(ended(run_id), ended(run_id))
        await server.listened_to()
        server.set(run_id, StateType.COMPLETED)
        return await waiting

    assert len({run.id for run in asyncio.run(wait())}) == 1
    assert len(server.asked) == 1


def test_a_run_that_somebody_deleted_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_LOOK_SECONDS", 0.0)
    gone = uuid4()
    with pytest.raises(StageFailed, match=f"{gone} was deleted"):
        asyncio.run(ended(gone))


def test_a_server_that_is_gone_is_told_to_each_who_waits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_LOOK_SECONDS", 0.0)

    async def gone() -> None:
        raise httpx.ConnectError("refused")

    async def wait() -> list[Any]:
        server.answering = gone
        return await asyncio.gather(*(ended(server.run()) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(wait())] == [httpx.ConnectError] * 3


def test_who_comes_after_an_end_that_nobody_asked_for_gets_another_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_told(monkeypatch)

    async def wait() -> None:
        async with hearing() as shared:
            first = asyncio.ensure_future(shared.ended(server.run(), lambda _: None))
            await server.listened_to()
            await shared.close()
            with pytest.raises(Unavailable, match="run the same command again"):
                await first
            with pytest.raises(Unavailable):
                await shared.ended(server.run(), lambda _: None)
            async with hearing() as another:
                assert another is not shared

    asyncio.run(wait())
    assert (server.clients, server.clients_open) == (2, 0)


def test_those_who_wait_for_their_turn_are_looked_at_the_less_the_more_they_are(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pauses(many: int) -> tuple[float, float]:
        shared = Hearing(server.subscribe)
        runs = [server.run() for _ in range(many)]
        for run_id in runs:
            shared._note(run_id, queued=True)
        waiting = shared._pause(runs[0])
        shared._note(runs[0], queued=False)
        await shared.opened()
        await shared.close()
        return waiting, shared._pause(runs[0])

    few, hundred, thousands = (asyncio.run(pauses(many)) for many in (3, 100, 5000))
    assert few[0] == few[1] == hundred[1] == thousands[1]
    assert few[0] < hundred[0] < thousands[0] < math.inf


@pytest.mark.cycle
def test_prefect_answers_though_more_listen_than_it_lets_in_at_a_time(installation: Installation) -> None:
    from prefect.events.clients import PrefectEventSubscriber

    address = json.loads((installation.home / "stack" / "prefect.json").read_text())["url"] + "/api"

    async def ask() -> int:
        listening: list[PrefectEventSubscriber] = []
        try:
            for _ in range(12):
                ten = [PrefectEventSubscriber(address, reconnection_attempts=0) for _ in range(10)]
                await asyncio.gather(*(one.__aenter__() for one in ten))
                listening += ten
            async with httpx.AsyncClient(timeout=30) as client:
                return (await client.get(f"{address}/health")).status_code
        finally:  # together: Prefect takes half a second to let go of each
            await asyncio.gather(*(one.__aexit__(None, None, None) for one in listening))

    assert asyncio.run(asyncio.wait_for(ask(), 120)) == 200

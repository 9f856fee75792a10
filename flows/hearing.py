"""What the Prefect server tells of the runs that this process waits for: one connection for all that wait.

A hundred runs that wait for one pool must not be a hundred subscriptions, clients and questions: a server on SQLite
would be busy with these alone. So all who wait in an event loop share one client, one subscription to what runs tell
of themselves, and one question now and then for what the subscription lost. The first opens them, the last closes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL

from flows.stage import PROGRESS
from volvox.errors import StageFailed, Unavailable

if TYPE_CHECKING:
    from prefect.events import Event

T = TypeVar("T")
Subscribe = Callable[[], AbstractAsyncContextManager[AsyncIterable["Event"]]]

_FIRST_LOOK_SECONDS = 1.0  # it may have ended before anybody listened for it
_LOOK_SECONDS = 5.0  # only for what the subscription did not tell
_LOOK_SECONDS_EACH = 0.25  # of those that wait for their turn: a hundred are looked at every 25 s
_LOOK_SECONDS_AT_MOST = 60.0
_TOGETHER_SECONDS = 2.0  # what is due so soon after another is asked with it
_AT_ONCE = 100  # runs in one question; the server answers with 200 at most
_AGAIN_SECONDS = 5.0
_SEEN = 4000  # events of the last minute, which a new subscription tells once more
_BUSY_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0)
_ENDED = {
    kind.value for kind in (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
}  # fmt: skip
_OF_A_RUN = "prefect.flow-run."


class Hearing:
    """A Prefect server, as all share it who wait in one event loop.

    Attributes:
        client: Its client; there once `opened` has returned.
        guests: How many use it.
        submitting: Held while a run is made: of those made at one moment a server on SQLite refuses all but one, and
            these ask again seconds later.
    """

    client: PrefectClient

    def __init__(self, subscribe: Subscribe | None = None) -> None:
        """Begin to connect; `subscribe` makes the subscription to events of flow runs."""
        self.guests = 0
        self.submitting = asyncio.Lock()
        self._subscribe = subscribe or _subscribed
        self._told: dict[UUID, list[asyncio.Queue[Any]]] = {}
        self._look_at: dict[UUID, float] = {}
        self._queued: set[UUID] = set()  # runs that wait for their turn, as far as is known
        self._sooner = asyncio.Event()
        self._seen: OrderedDict[UUID, None] = OrderedDict()
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # One task enters and leaves the client: who comes first may be gone long before the last.
        self._serving = asyncio.ensure_future(self._serve())

    async def opened(self) -> None:
        """Wait until there is a client.

        Raises:
            ValueError: If no address of a Prefect server is known.
        """
        await asyncio.shield(self._open)

    @property
    def over(self) -> bool:
        """Whether it ended, so that who comes now needs another one."""
        return self._serving.done()

    async def close(self) -> None:
        """End all that is under way; for who leaves last."""
        self._serving.cancel()
        await asyncio.wait([self._serving])

    async def ended(self, run_id: UUID, hear: Callable[[Event], None]) -> FlowRun:
        """Follow a run until it has ended: by its events, and now and then by asking.

        Args:
            run_id: The run.
            hear: Gets what the run tells of its progress, in the context of the caller.

        Returns:
            The run in its final state.

        Raises:
            StageFailed: If somebody deleted the run.
            Unavailable: If the server is too busy to answer, for minutes.
            httpx.TransportError: If the server is gone, for minutes.
        """
        told: asyncio.Queue[Any] = asyncio.Queue()
        self._told.setdefault(run_id, []).append(told)
        self._look(run_id, _FIRST_LOOK_SECONDS)
        if self.over:
            self._give_up([run_id])
        try:
            while not isinstance(one := await told.get(), FlowRun):
                if isinstance(one, Exception):
                    raise one
                hear(one)
            return one
        finally:
            self._told[run_id].remove(told)
            if not self._told[run_id]:
                del self._told[run_id]
                self._look_at.pop(run_id, None)
                self._queued.discard(run_id)

    async def _serve(self) -> None:
        why = ""
        try:
            async with get_client() as self.client:
                self._open.set_result(None)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen())
                    tasks.create_task(self._ask())
        except Exception as error:
            if not self._open.done():
                self._open.set_exception(error)
                self._open.exception()  # who waited for it may be gone
            why = f" ({type(error).__name__}: {error})"
        finally:
            self._open.cancel()
            self._give_up(list(self._told), why)

    def _give_up(self, runs: Iterable[UUID], why: str = "") -> None:
        said = f"nobody listens to the Prefect server any more{why}; run the same command again to join its runs"
        self._tell(runs, Unavailable(said))

    def _tell(self, runs: Iterable[UUID], what: Event | FlowRun | Exception) -> None:
        for run_id in runs:
            for told in self._told.get(run_id, ()):
                told.put_nowait(what)

    def _look(self, run_id: UUID, seconds: float) -> None:
        """Look at the run after so long, at the latest."""
        at = asyncio.get_running_loop().time() + seconds
        self._look_at[run_id] = min(at, self._look_at.get(run_id, at))
        self._sooner.set()

    # -- the subscription ----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hand on what is told; a subscription that breaks is made again, for ever."""
        while True:
            with contextlib.suppress(Exception):  # the server restarts: what is missed meanwhile is asked for
                async with self._subscribe() as events:
                    for run_id in self._told:
                        self._look(run_id, _FIRST_LOOK_SECONDS)
                    async for event in events:
                        self._hear(event)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _hear(self, event: Event) -> None:
        run_id = _run_of(event)
        if run_id is None or run_id not in self._told or event.id in self._seen:
            return
        self._seen[event.id] = None
        while len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        kind = event.resource.get("prefect.state-type")
        if event.event == PROGRESS:
            self._tell([run_id], event)
        elif kind in _ENDED:
            self._look(run_id, 0.0)
        self._note(run_id, kind == StateType.SCHEDULED.value)
        now = asyncio.get_running_loop().time()
        if self._look_at[run_id] > now:  # it is as it should be
            self._look_at[run_id] = now + self._pause(run_id)

    def _note(self, run_id: UUID, queued: bool) -> None:
        if queued:
            self._queued.add(run_id)
        else:
            self._queued.discard(run_id)

    # -- the question --------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Look at each run when its time has come, at as many as possible at once."""
        loop = asyncio.get_running_loop()
        while True:
            self._sooner.clear()
            next_at = min(self._look_at.values(), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_at):
                    await self._sooner.wait()
            if next_at is None or loop.time() < min(self._look_at.values(), default=next_at):
                continue
            soon = loop.time() + _TOGETHER_SECONDS
            due = [run_id for run_id, at in self._look_at.items() if at <= soon]
            for begin in range(0, len(due), _AT_ONCE):
                await self._ask_for(due[begin : begin + _AT_ONCE])

    async def _ask_for(self, runs: list[UUID]) -> None:
        for run_id in runs:
            self._look_at[run_id] = math.inf
        try:
            found = {run.id: run for run in await patiently(lambda: _read(self.client, runs))}
        except Exception as error:  # each who waits fails with it
            self._tell(runs, error)
            return
        now = asyncio.get_running_loop().time()
        for run_id in runs:
            if run_id not in self._told:
                self._look_at.pop(run_id, None)
                continue
            run = found.get(run_id)
            if run is None:
                said = f"the run {run_id} was deleted in Prefect; run the same command again for another one"
                self._tell([run_id], StageFailed(said))
            elif run.state is not None and run.state.is_final():
                self._tell([run_id], run)
            else:
                self._note(run_id, run.state is not None and run.state.is_scheduled())
                if self._look_at[run_id] == math.inf:  # else it was told of while the server answered
                    self._look_at[run_id] = now + self._pause(run_id)

    def _pause(self, run_id: UUID) -> float:
        """How long not to look at a run of which an event tells as a rule."""
        if run_id not in self._queued:
            return _LOOK_SECONDS
        return max(_LOOK_SECONDS, min(len(self._queued) * _LOOK_SECONDS_EACH, _LOOK_SECONDS_AT_MOST))


_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Hearing]] = weakref.WeakKeyDictionary()


@contextlib.asynccontextmanager
async def hearing() -> AsyncGenerator[Hearing, None]:
    """The Prefect server of the settings in force, shared with all others who use it in this event loop.

    Raises:
        ValueError: If no address of a Prefect server is known.
    """
    here, address = _shared.setdefault(asyncio.get_running_loop(), {}), str(PREFECT_API_URL.value())
    shared = here.get(address)
    if shared is None or shared.over:
        shared = here[address] = Hearing()
    shared.guests += 1
    try:
        await shared.opened()
        yield shared
    finally:
        shared.guests -= 1
        if not shared.guests:
            if here.get(address) is shared:
                del here[address]
            await shared.close()


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again a server that is too busy to answer in time, as one is that gets a hundred runs at once.

    Raises:
        Unavailable: If it never answered in time.
    """
    for pause in _BUSY_SECONDS:
        try:
            return await ask()
        except httpx.TimeoutException:
            await asyncio.sleep(pause)
    try:
        return await ask()
    except httpx.TimeoutException as error:
        raise Unavailable("the Prefect server is too busy to answer; run the same command again later") from error


async def _read(client: PrefectClient, runs: list[UUID]) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    return await client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=runs)), limit=len(runs))


def _subscribed() -> AbstractAsyncContextManager[AsyncIterable[Event]]:
    """What flow runs tell of themselves, all of them: a filter for those waited for would change with each of them."""
    from prefect.events.clients import get_events_subscriber
    from prefect.events.filters import EventFilter, EventNameFilter

    return get_events_subscriber(filter=EventFilter(event=EventNameFilter(prefix=[_OF_A_RUN, PROGRESS])))


def _run_of(event: Event) -> UUID | None:
    named = event.resource.get("prefect.resource.id") or ""
    try:
        return UUID(named.removeprefix(_OF_A_RUN))
    except ValueError:
        return None

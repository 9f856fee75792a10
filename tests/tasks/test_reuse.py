import asyncio
import threading

import pytest

from tasks.reuse import once
from volvox import progress
from volvox.errors import Unavailable
from volvox.records import Job
from volvox.store import FolderStore, Lock, Store


@pytest.fixture
def store(tmp_path) -> Store:
    return FolderStore(tmp_path / "store")


def _job(store: Store) -> Job:
    return Job(service="s", version="1", input="i", input_digest="d", answer_object=store.put_bytes(b"{}"))


def _made(store: Store, made: list[int]):
    async def make() -> Job:
        made.append(1)
        await asyncio.sleep(0.05)
        return _job(store)

    return make


def test_what_was_done_is_not_done_again_and_says_so(store: Store) -> None:
    made: list[int] = []
    events: list[progress.Event] = []
    with progress.listening(events.append):
        first = asyncio.run(once(store, "inference", "k", Job, _made(store, made)))
        second = asyncio.run(once(store, "inference", "k", Job, _made(store, made)))
    assert first == second
    assert len(made) == 1
    assert [event.kind for event in events] == ["reused"]


def test_two_at_once_do_the_work_once(store: Store) -> None:
    made: list[int] = []

    async def both() -> list[Job]:
        return await asyncio.gather(*(once(store, "inference", "k", Job, _made(store, made)) for _ in range(2)))

    first, second = asyncio.run(both())
    assert first == second
    assert len(made) == 1


def test_a_record_whose_object_is_gone_is_made_again(store: Store) -> None:
    made: list[int] = []
    first = asyncio.run(once(store, "inference", "k", Job, _made(store, made)))
    store.path(first.answer_object).unlink()
    asyncio.run(once(store, "inference", "k", Job, _made(store, made)))
    assert len(made) == 2


def test_a_failure_is_not_kept_and_lets_go_of_the_lock(store: Store) -> None:
    async def fail() -> Job:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        asyncio.run(once(store, "inference", "k", Job, fail))
    assert asyncio.run(once(store, "inference", "k", Job, _made(store, []))).service == "s"


class _Lost(Lock):
    """A lock that is lost when the test says so."""

    def __init__(self) -> None:
        self.calls, self.closed, self._why = [], False, ""

    @property
    def lost(self) -> str:
        return self._why

    def when_lost(self, call) -> None:
        self.calls.append(call)

    def close(self) -> None:
        self.closed = True

    def lose(self) -> None:
        self._why = "the lock was lost"
        for call in self.calls:
            call()


def test_work_is_ended_when_its_lock_is_lost_and_nothing_is_kept(store: Store, monkeypatch) -> None:
    lock, ended = _Lost(), []
    monkeypatch.setattr(store, "try_lock", lambda stage, key: lock)

    async def work() -> Job:
        threading.Timer(0.05, lock.lose).start()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append(True)
            raise
        return _job(store)

    with pytest.raises(Unavailable, match="the lock was lost"):
        asyncio.run(once(store, "inference", "k", Job, work))
    assert ended and lock.closed
    assert store.record("inference", "k") is None


def test_a_lock_that_is_lost_when_the_work_is_done_disturbs_nobody(store: Store, monkeypatch) -> None:
    lock = _Lost()
    monkeypatch.setattr(store, "try_lock", lambda stage, key: lock)

    async def both() -> Job:
        made = await once(store, "inference", "k", Job, _made(store, []))
        lock.lose()
        await asyncio.sleep(0.05)
        return made

    assert asyncio.run(both()).service == "s"


def test_a_time_limit_of_the_work_itself_stays_one(store: Store) -> None:
    async def slow() -> Job:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)
        return _job(store)

    with pytest.raises(TimeoutError):
        asyncio.run(once(store, "inference", "k", Job, slow))


def test_a_cancel_while_the_lock_is_asked_for_does_not_leave_it_held(store: Store, monkeypatch) -> None:
    asked, go_on, lock = threading.Event(), threading.Event(), _Lost()

    def slowly(stage: str, key: str) -> Lock:
        asked.set()
        go_on.wait(10)
        return lock

    monkeypatch.setattr(store, "try_lock", slowly)

    async def cancelled() -> None:
        waiting = asyncio.create_task(once(store, "inference", "k", Job, _made(store, [])))
        await asyncio.to_thread(asked.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        while not lock.closed:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(cancelled(), 10))

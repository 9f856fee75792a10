import asyncio

import pytest

from tasks.reuse import once
from volvox import progress
from volvox.records import Job
from volvox.store import FolderStore, Store


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

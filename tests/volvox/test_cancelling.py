"""Work in a thread that a cancel really ends."""

import asyncio
import threading
import time

import pytest

from volvox.cancelling import Cancelled, in_thread


def test_a_result_and_an_error_come_back() -> None:
    assert asyncio.run(in_thread(lambda cancelled: cancelled.is_set())) is False

    def fail(_: threading.Event) -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        asyncio.run(in_thread(fail))


def test_a_cancel_waits_until_the_work_has_ended() -> None:
    ended = threading.Event()

    def work(cancelled: threading.Event) -> None:
        cancelled.wait(30)
        time.sleep(0.1)
        ended.set()
        raise Cancelled

    async def scenario() -> None:
        task = asyncio.create_task(in_thread(work))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(scenario())

import asyncio
import contextlib
import threading

import pytest

from volvox.blocking import entered


def test_it_is_entered_and_left_in_a_thread_and_sees_the_error() -> None:
    seen: list[object] = []

    @contextlib.contextmanager
    def blocking():
        seen.append(threading.current_thread() is threading.main_thread())
        try:
            yield 7
        except ValueError as error:
            seen.append(str(error))
            raise

    async def use() -> None:
        async with entered(blocking()) as value:
            raise ValueError(f"{value}")

    with pytest.raises(ValueError, match="7"):
        asyncio.run(use())
    assert seen == [False, "7"]


def test_what_was_being_entered_when_a_cancel_came_is_left() -> None:
    begun, go_on, left = threading.Event(), threading.Event(), []

    @contextlib.contextmanager
    def blocking():
        begun.set()
        go_on.wait(10)
        try:
            yield
        finally:
            left.append(True)

    async def use() -> None:
        async with entered(blocking()):
            pytest.fail("it was cancelled before")

    async def cancelled() -> None:
        using = asyncio.create_task(use())
        await asyncio.to_thread(begun.wait)
        using.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await using

    asyncio.run(cancelled())
    assert left == [True]

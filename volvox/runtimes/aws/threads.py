"""Work that waits for AWS, off the event loop, in threads that nobody has to wait for.

A call of Lambda may take a quarter of an hour and cannot be broken off. An executor's threads would be waited for when
the process ends; these are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def off(do: Callable[[], T]) -> T:
    """What `do` gives, called in a thread; cancelled, it goes on there and what it gives is dropped."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # pyright: ignore[reportArgumentType]

    def run() -> None:
        result, error = None, None
        try:
            result = do()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="aws", daemon=True).start()
    return await done

"""What the tests of all engines share."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from volvox.infrastructure.jobs import Engine, Job

IMAGE = os.environ.get("ENGINE_BASE_IMAGE", "engines/python:3.11")


async def eventually(engine: Engine, run: str, holds: Callable[[Job], bool], seconds: float = 60) -> Job:
    """The job of `run`, once it is as told; the engine is asked all the time."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        for job in await engine.jobs():
            if job.run_id == run:
                last = job
                if holds(job):
                    return job
        await asyncio.sleep(0.1)
    raise AssertionError(f"never so within {seconds} s, last: {last}")

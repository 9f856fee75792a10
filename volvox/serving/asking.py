"""A request on its way to a worker and back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from volvox.errors import Unavailable, VolvoxError


@dataclass(frozen=True)
class Answer:
    """What a worker said: its header, and the body as it goes to the client."""

    header: dict[str, Any]
    body: bytes


class Busy(Unavailable):
    """As many requests wait for the model as may.

    Attributes:
        retry_after_seconds: When the queue will have moved on.
    """

    status = 429

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooSlow(Unavailable):
    """The model did not answer before the request's deadline."""

    status = 504


class Ask:
    """One request; a class below says what becomes of its answer.

    Attributes:
        request: One of `volvox.worker.answering`.
        payload: Raw bytes that go with it.
        number: Its number with the worker that has it; 0 while it waits.
        alone: Whether it must not be answered together with others: the process that did so died.
        patient: Whether it goes after every other, has no deadline and takes no place in the queue: that of a job.
    """

    patient = False

    __slots__ = ("alone", "arrived", "number", "payload", "request", "worker")

    def __init__(self, request: Mapping[str, Any], payload: bytes = b"") -> None:
        self.request = dict(request)
        self.payload = payload
        self.number = 0
        self.alone = False
        self.arrived = 0.0
        self.worker: Any = None

    def part(self, header: dict[str, Any], body: bytes) -> None:
        """A piece of an answer that the module streams."""
        raise NotImplementedError

    def answered(self, header: dict[str, Any], body: bytes) -> None:
        """The answer, or the end of one that was streamed."""
        raise NotImplementedError

    def failed(self, error: VolvoxError) -> None:
        """There will be no answer."""
        raise NotImplementedError


class AwaitedAsk(Ask):
    """A request whose answer a coroutine waits for, as a whole."""

    __slots__ = ("_parts", "future")

    def __init__(self, request: Mapping[str, Any], payload: bytes = b"") -> None:
        super().__init__(request, payload)
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []

    def part(self, header: dict[str, Any], body: bytes) -> None:  # noqa: ARG002 - the last one has it again
        self._parts.append(body)

    def answered(self, header: dict[str, Any], body: bytes) -> None:
        if not self.future.done():
            self.future.set_result(Answer(header, b"".join([*self._parts, body]) if self._parts else body))

    def failed(self, error: VolvoxError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

"""Answer requests for one model module: `python bootstrap.py loop --module NAME --socket FD --control FD`.

Both sides send the frames of `volvox.worker.wire`.

* Once, from here: `{"ready": DESCRIPTION, "pid": N, "batches": BOOLEAN}` when the module is imported, described and
  warmed, or `{"failed": MESSAGE, "trace": TEXT}`, after which the process ends.
* A request: one of `volvox.worker.answering` with an `id`; ids rise. `{"alone": true}` keeps it out of a batch. Its
  frame's body becomes its `payload`.
* Its answer: that of `volvox.worker.answering` with the same `id`. What a module streams goes as frames with
  `"more": true`, the last without.

Requests are answered in the order they came; those that have come while the module was at work are answered together
where it has `predict_batch`. The environment's VOLVOX_WEIGHTS names the folder of the version's weights.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections import deque
from typing import Any, Iterator

from volvox.worker import loading
from volvox.worker.__main__ import end_with_parent
from volvox.worker.answering import Answering, failure, interrupted
from volvox.worker.control import Control, Interrupted
from volvox.worker.wire import Frames, frame

_PIECE = 1 << 18


class Loop:
    """Reads requests, has them answered, sends the answers."""

    def __init__(self, connection: socket.socket, answering: Answering, control: Control, batch: int) -> None:
        """`batch` is the largest number of requests to answer at once."""
        self._connection, self._answering, self._control = connection, answering, control
        self._batch = batch if answering.batches else 1
        self._frames = Frames()
        # One for all, since to get so much memory takes longer than to answer a small request.
        self._buffer = memoryview(bytearray(_PIECE))
        self._waiting: deque[dict[str, Any]] = deque()
        self._answers: list[bytes] = []

    def run(self) -> None:
        """Until the other side closes."""
        while self._waiting or self._receive(0):
            if self._waiting:
                self._answer(self._next())
                self._send()  # held back for the next one it would wait as long as that takes, which nobody knows

    def _receive(self, flags: int) -> bool:
        size = self._connection.recv_into(self._buffer, 0, flags)
        self._waiting.extend(
            {**header, "payload": body} if body else header
            for header, body in self._frames.feed(bytes(self._buffer[:size]))
        )
        return bool(size)

    def _next(self) -> list[dict[str, Any]]:
        if self._batch == 1:
            return [self._waiting.popleft()]
        try:
            while len(self._waiting) < self._batch and self._receive(socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            pass
        asked = [self._waiting.popleft()]
        if self._answering.together(asked[0]) and not asked[0].get("alone"):
            kind = "tensors" in asked[0]
            while self._waiting and len(asked) < self._batch:
                if self._waiting[0].get("alone") or ("tensors" in self._waiting[0]) is not kind:
                    break
                asked.append(self._waiting.popleft())
        return asked

    def _answer(self, asked: list[dict[str, Any]]) -> None:
        control = self._control
        control.begin(asked[-1]["id"])
        try:
            if len(asked) == 1:
                answers = [self._answering.answer(asked[0])]
                header, body = answers[0]
                if not isinstance(body, bytes):
                    answers = [self._stream(header, body, asked[0]["id"])]
            else:
                answers = self._answering.answer_many(asked)
            control.end()
        except Interrupted:
            answers = [interrupted()] * len(asked)
        for request, (header, body) in zip(asked, answers):
            whole = body if isinstance(body, bytes) else b"".join(body)
            self._answers.append(frame({**header, "id": request["id"]}, whole))

    def _stream(self, header: dict[str, Any], body: Iterator[bytes], number: int) -> Any:
        """Send what the module gives as it gives it; the answer that ends it."""
        try:
            for part in body:
                self._control.end()  # an interrupt inside of a frame would leave half of it on the socket
                self._answers.append(frame({**header, "id": number, "more": True}, part))
                self._send()
                self._control.resume()
        except Exception as error:
            return failure(error)
        return header, b""

    def _send(self) -> None:
        if self._answers:
            self._connection.sendall(b"".join(self._answers))
            self._answers.clear()


def serve(module: str, descriptor: int, page: int, *, batch: int = 1, parent: int = 0, warm: bool = True) -> int:
    """Load the module, say so, answer until the other side closes; 1 if the module cannot be loaded or warmed.

    Args:
        module: A text that `volvox.worker.finding` reads.
        descriptor: Of the socket to the other side.
        page: Of the page of memory that both have.
        batch: How many requests it answers at once.
        parent: The process that this one ends with; 0: none.
        warm: Whether the module is warmed first.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which drains
    if parent:
        end_with_parent(parent)
    control = Control(page)
    control.listen()
    with socket.socket(fileno=descriptor) as connection:
        try:
            answering = Answering(module, warm=warm)
        except BaseException as error:
            message = str(error) if isinstance(error, loading.Missing) else f"{type(error).__name__}: {error}"
            connection.sendall(frame({"failed": message, "trace": traceback.format_exc()}))
            return 1
        ready = {"ready": answering.description, "pid": os.getpid(), "batches": answering.batches}
        connection.sendall(frame(ready))
        Loop(connection, answering, control, batch).run()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """As `serve`, of a command line."""
    import argparse

    parser = argparse.ArgumentParser(prog="volvox.worker.loop")
    parser.add_argument("--module", required=True)
    parser.add_argument("--socket", required=True, type=int)
    parser.add_argument("--control", required=True, type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--nowarm", action="store_true")
    asked = parser.parse_args(arguments)
    return serve(
        asked.module, asked.socket, asked.control, batch=asked.batch, parent=asked.parent, warm=not asked.nowarm
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

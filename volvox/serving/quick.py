"""The shortest way from a connection to a model: predictions are answered without the web framework.

Everything that is not a plain prediction goes the usual way, through uvicorn to the application. What uvicorn does for
a connection - keeping it alive, its time limits, pipelined requests, draining - it does here too.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from volvox.errors import VolvoxError
from volvox.serving import access, outcome
from volvox.serving.asking import Ask
from volvox.serving.reading import Body, announced, query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volvox.serving.served import ServedModel
    from volvox.serving.services import Services

_SWALLOW_SECONDS = 5.0  # of a body that was refused while it came in: a client that still writes reads no answer


def protocol(services: Services, headers: Mapping[str, str], base_path: str = "") -> type[HttpToolsProtocol]:
    """The protocol class of connections to a server of `services`; every answer has `headers`."""
    fixed = b"".join(f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in headers.items())
    attributes = {"services": services, "fixed": fixed, "prefix": f"{base_path}/v2/models/".encode()}
    return type("QuickProtocol", (_QuickProtocol,), attributes)


class _QuickProtocol(HttpToolsProtocol):
    services: Services
    fixed: bytes
    prefix: bytes
    exchange: _Exchange | None = None
    parser: Any  # None once the connection is lost, when nothing is parsed any more

    def on_headers_complete(self) -> None:
        name = self._asked()
        if name is None:
            super().on_headers_complete()
            return
        self.exchange = exchange = _Exchange(self, name)
        self.cycle = exchange  # type: ignore[assignment]  # it has what uvicorn looks at
        exchange.begin()

    def _asked(self) -> str | None:
        """The model that a prediction is asked of; None if this is anything else."""
        url = self.url
        if not url.startswith(self.prefix) or self.parser.get_method() != b"POST":
            return None
        path, _, asked = url.partition(b"?")
        if not path.endswith(b"/predict/") or b"%" in path or b"mode=" in asked:
            return None
        if self.parser.get_http_version() != "1.1" or (self.cycle is not None and not self.cycle.response_complete):
            return None
        guard = self.services.guard
        if guard is not None and guard.refusal(self.headers) is not None:
            return None  # the usual way says why, or waits for what is needed to know
        name = path[len(self.prefix) : -len(b"/predict/")]
        return None if not name or b"/" in name else name.decode("ascii", "replace")

    def on_body(self, body: bytes) -> None:
        if self.cycle is self.exchange and self.exchange is not None:
            self.exchange.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.cycle is self.exchange and self.exchange is not None:
            self.exchange.finish()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.exchange is not None:
            self.exchange.lost()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self.services.ending = True
        super().shutdown()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.exchange is not None and self.exchange.worker is not None:
            self.exchange.worker.resume()


class _Signal:
    """What uvicorn would wake an application with; there is none."""

    def set(self) -> None: ...


class _Exchange(Ask):
    """One prediction over HTTP, from its first header to the last byte of its answer."""

    __slots__ = (
        "began", "body", "body_ended", "connection", "disconnected", "given_id", "id", "keep_alive", "message_event",
        "model", "name", "response_complete", "started",
    )  # fmt: skip

    def __init__(self, connection: _QuickProtocol, name: str) -> None:
        super().__init__({})
        self.connection, self.name = connection, name
        self.keep_alive = connection.parser.should_keep_alive()
        self.response_complete = self.disconnected = self.started = self.body_ended = False
        self.message_event = _Signal()
        self.body: Body | None = None
        self.model: ServedModel | None = None
        self.given_id: bytes | None = None
        self.id = ""
        self.began = time.perf_counter()

    # -- the request -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The headers are there."""
        services, limits = self.connection.services, self.connection.services.limits
        try:
            forwarded = services.get(self.name).forwarded
            content_type, wanted = b"", {}
            for key, value in self.connection.headers:
                if key == b"content-type":
                    content_type = value
                elif key == b"content-length":
                    announced(value, limits)
                elif key == b"x-request-id":
                    self.given_id = value
                elif key in forwarded:
                    wanted[key.decode("ascii")] = value.decode("latin-1")
            if asked := self.connection.url.partition(b"?")[2]:
                self.request["query"] = query(asked.decode("latin-1"), limits)
            if wanted:
                self.request["headers"] = wanted
            self.body = Body(content_type, services.uploads, limits)
        except VolvoxError as error:
            self._refuse(error)
            return
        if self.connection.expect_100_continue:
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def feed(self, piece: bytes) -> None:
        """A piece of the body is there."""
        if self.response_complete or self.body is None:
            return
        try:
            self.body.feed(piece)
        except VolvoxError as error:
            self._refuse(error)

    def finish(self) -> None:
        """The body has ended: now the model is asked."""
        self.body_ended = True
        if self.response_complete:
            if not self.keep_alive:
                self.connection.transport.close()
            return
        assert self.body is not None
        try:
            self.request.update(self.body.finish())
            # Asked for only now: while the body came another version may have taken over.
            self.model = self.connection.services.get(self.name)
            self.model.submit(self)
        except VolvoxError as error:
            self.failed(error)

    def lost(self) -> None:
        """The client has left."""
        self.disconnected = True
        if not self.response_complete:
            self.response_complete = True
            self._done()
            if self.model is not None:
                self.model.pool.abandon(self)

    def _refuse(self, error: VolvoxError) -> None:
        """Say no while the body is still coming: what comes is swallowed for a while, then the connection ends."""
        self.keep_alive = False
        self._write(outcome.failed(error))
        asyncio.get_running_loop().call_later(_SWALLOW_SECONDS, self.connection.transport.close)

    # -- the answer --------------------------------------------------------------------------------------------------

    def part(self, header: dict[str, Any], body: bytes) -> None:
        if self.response_complete or not body:  # an empty chunk would be the last
            return
        transport = self.connection.transport
        if not self.started:
            self.started = True
            told = self._head(200, header["content_type"], b"transfer-encoding: chunked\r\n")
            transport.write(told)
        transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        if self.connection.flow.write_paused and self.worker is not None:
            self.worker.pause()

    def answered(self, header: dict[str, Any], body: bytes) -> None:
        if self.response_complete:
            return
        if self.started:
            if "error" in header:  # too late to say so: an answer that ends before its end cannot be taken for whole
                self.keep_alive = False
                self._complete(200)
            else:
                self.connection.transport.write(b"0\r\n\r\n")
                self._complete(200)
            return
        self._write(outcome.said(header, body, self.name, self._id()))

    def failed(self, error: VolvoxError) -> None:
        if self.response_complete:
            return
        if self.started:
            self.keep_alive = False
            self._complete(error.status)
            return
        self._write(outcome.failed(error))

    def _write(self, told: outcome.Outcome) -> None:
        more = b"content-length: %d\r\n" % len(told.body)
        for name, value in told.headers.items():
            more += f"{name.lower()}: {value}\r\n".encode("latin-1")
        self._done()  # first: who has the answer may look whether anything is left
        self.connection.transport.write(self._head(told.status, told.content_type, more) + told.body)
        self._complete(told.status)

    def _head(self, status: int, content_type: str, more: bytes) -> bytes:
        connection = self.connection
        parts = [STATUS_LINE[status]]
        for name, value in connection.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        milliseconds = 1000 * (time.perf_counter() - self.began)
        parts.append(
            f"content-type: {_header(content_type)}\r\nx-request-id: {self._id()}\r\n"
            f"server-timing: predict;dur={milliseconds:.1f}\r\n".encode("latin-1", "replace")
        )
        parts += (connection.fixed, more)
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(parts)

    def _complete(self, status: int) -> None:
        self.response_complete = True
        self._done()
        connection = self.connection
        seconds = time.perf_counter() - self.began
        connection.services.answered(self.name, status, seconds)
        client, path = connection.client[0] if connection.client else "", connection.url.partition(b"?")[0]
        access.told(client, "POST", path.decode("latin-1"), status=status, seconds=seconds, number=self._id())
        if not self.keep_alive and self.body_ended:
            connection.transport.close()
        connection.on_response_complete()

    def _done(self) -> None:
        body, self.body = self.body, None
        if body is not None:
            self.connection.services.metrics.received(self.name, body.size)
            body.remove()

    def _id(self) -> str:
        self.id = self.id or access.request_id(self.given_id)
        return self.id


def _header(value: str) -> str:
    """A header's value without line ends: a module may name any content type."""
    return value if value.isprintable() else "application/octet-stream"

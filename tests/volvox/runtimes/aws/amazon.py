"""A loopback server in place of Amazon's endpoints: it answers with error bodies as Amazon's services send them.

boto3 itself asks it, so what is tested is all between a body on the wire and the sentence that a person reads.
"""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

# operation -> status, media type, body
Answer = tuple[int, str, str]
JSON, XML = "application/json", "text/xml"
_PATHS = (
    ("POST", r"/2015-03-31/functions", "CreateFunction"), ("POST", r".*/invocations", "Invoke"),
    ("PUT", r".*/concurrency", "PutFunctionConcurrency"), ("GET", r".*/concurrency", "GetFunctionConcurrency"),
    ("GET", r".*/aliases/live", "GetAlias"), ("GET", r"/2015-03-31/functions/[^/]+", "GetFunction"),
    ("GET", r".*/event-invoke-config", "GetFunctionEventInvokeConfig"),
    ("PUT", r".*/event-invoke-config", "PutFunctionEventInvokeConfig"),
    ("POST", r"/v1/submitjob", "SubmitJob"), ("POST", r"/v1/describejobqueues", "DescribeJobQueues"),
    ("POST", r"/v1/createcomputeenvironment", "CreateComputeEnvironment"),
    ("POST", r"/v1/describecomputeenvironments", "DescribeComputeEnvironments"),
    ("GET", r"/[^/]*", "ListObjects"), ("HEAD", r"/[^/]*", "HeadBucket"), ("PUT", r"/[^/]+/.+", "PutObject"),
)  # fmt: skip


class Amazon(ThreadingHTTPServer):
    """Answers what a test says; an operation that it does not know of is not there.

    Attributes:
        answers: By operation.
        asked: Operations, in order.
        bodies: What was sent with them.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Amazon

    def _handled(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        operation = self._operation(body)
        self.server.asked.append(operation)
        self.server.bodies.append(body)
        missing = (404, JSON, '{"__type":"ResourceNotFoundException","Message":"not found"}')
        if "Action=" in body.decode(errors="replace"):
            missing = (
                404,
                XML,
                "<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>no</Message></Error></ErrorResponse>",
            )
        status, kind, text = self.server.answers.get(operation, missing)
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        if (code := re.search(r'"__type"\s*:\s*"(?:[^"#]*#)?(\w+)"', text)) and status >= 300:
            self.send_header("x-amzn-errortype", code[1])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def _operation(self, body: bytes) -> str:
        if target := self.headers.get("x-amz-target"):
            return target.rpartition(".")[2]
        path = unquote(self.path.partition("?")[0])
        if "x-www-form-urlencoded" in self.headers.get("content-type", ""):
            return parse_qs(body.decode())["Action"][0]
        return next(
            (name for method, form, name in _PATHS if method == self.command and re.fullmatch(form, path)), path
        )

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _handled

    def log_message(self, *_: Any) -> None:
        pass

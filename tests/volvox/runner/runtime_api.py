"""AWS Lambda's Runtime API for one process: hands it events and keeps what it answers."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RuntimeApi:
    """Run a command as Lambda runs an image's entry point."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self._events: queue.Queue[tuple[str, bytes, float]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                request, event, seconds = api._events.get()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", request)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + seconds) * 1000)))
                self.send_header("Content-Length", str(len(event)))
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api._answers.put((self.path, json.loads(body)))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        told = {
            **os.environ, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_VERSION": "7", **environment,
        }  # fmt: skip
        self.process = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def ask(self, event: dict[str, Any], seconds: float = 60.0) -> dict[str, Any]:
        """What it answers, an error raised as AssertionError."""
        self._events.put(("request", json.dumps(event).encode(), seconds))
        path, answer = self.answer()
        assert path.endswith("/response"), answer
        return answer

    def answer(self) -> tuple[str, dict[str, Any]]:
        """The next thing that it tells: the path, and what."""
        return self._answers.get(timeout=60)

    def __enter__(self) -> RuntimeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._server.shutdown()
        self._server.server_close()

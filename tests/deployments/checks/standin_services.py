"""As much of Prefect's and MLflow's APIs as the checks of a pool ask; prints its port."""

from __future__ import annotations

import datetime
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = {"/api/health": True, "/health": "OK"}
        self._answer(200 if self.path in found else 404, found.get(self.path))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        now = datetime.datetime.now(datetime.UTC).isoformat()
        if self.path == "/api/work_pools/filter":
            names = asked["work_pools"]["name"]["any_"]
            self._answer(200, [{"name": name, "is_paused": False, "concurrency_limit": 2} for name in names])
        elif self.path.endswith("/workers/filter"):
            self._answer(200, [{"status": "ONLINE", "last_heartbeat_time": now, "heartbeat_interval_seconds": 30}])
        else:
            self._answer(200, 0)

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()

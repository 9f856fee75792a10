"""A server with a guard: `python -m tests.volvox.serving.guarded_server HOME SETTINGS`.

SETTINGS is JSON of GuardSettings; with `access_log` the server writes one.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import uvicorn

from volvox.serving import access
from volvox.serving.app import HEADERS, create_app
from volvox.serving.guard import GuardSettings
from volvox.serving.quick import protocol


def main(home: str, settings: str) -> None:
    told = json.loads(settings)
    if "tokens" in told:
        told["tokens"] = Path(told["tokens"])
    if told.pop("access_log", False):
        access.turn_on()
    app = create_app(Path(home), guard=GuardSettings(**told))
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"serving at http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app, ws="none", log_level="warning", access_log=False, http=protocol(app.state.services, HEADERS)
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])

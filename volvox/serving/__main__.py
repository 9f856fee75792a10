"""The stack's web server: `python -m volvox.serving --home FOLDER --port PORT`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from volvox.errors import VolvoxError
from volvox.serving.running import serve_home


def main(arguments: list[str] | None = None) -> int:
    """Serve the models, pages and catalogue of one home in the foreground."""
    parser = argparse.ArgumentParser(prog="volvox.serving", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    asked = parser.parse_args(arguments)
    try:
        serve_home(asked.home, asked.host, asked.port)
    except VolvoxError as error:
        print(f"volvox.serving: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

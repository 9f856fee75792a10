"""The end screen of a real `volvox cycle --demo`, as a picture: `python -m benchmarks.picture FILE.svg`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from volvox.cli.report import end_screen
from volvox.records import Cycle


def main(file: str) -> None:
    """Run the demo in a home of its own and draw what it ends with; the home is shown as the default one."""
    with tempfile.TemporaryDirectory() as home, Path(os.devnull).open("w") as nowhere:
        environment = {**os.environ, "VOLVOX_HOME": home}
        volvox = [sys.executable, "-m", "volvox"]
        try:
            done = subprocess.run(
                [*volvox, "cycle", "--demo", "--json"], env=environment, check=True, capture_output=True, text=True
            )
        finally:
            subprocess.run([*volvox, "down"], env=environment, check=True, capture_output=True)
        told = json.loads(done.stdout.replace(home, "/home/you/.volvox"))
        console = Console(record=True, width=104, force_terminal=True, color_system="truecolor", file=nowhere)
        end_screen(Cycle.model_validate(told), told["wall_seconds"], console)
        console.save_svg(file, title="volvox cycle --demo")


if __name__ == "__main__":
    main(sys.argv[1])

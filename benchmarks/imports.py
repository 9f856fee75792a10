"""What the command line imports and how much processor time it takes: `python -m benchmarks.imports`.

Limits (exit 1 where one is broken): `volvox --help` under 0.4 s of CPU, without torch, Prefect or MLflow; the API of
the image classifier under 0.3 s, without torch or ONNX Runtime.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys

RUNS = 7
HEAVY = ("torch", "prefect", "mlflow", "pytorch_lightning", "onnxruntime", "pandas")
CASES = {
    "volvox --help": ("from volvox.cli.main import main; main()", ["--help"], 0.4),
    "volvox status --help": ("from volvox.cli.main import main; main()", ["status", "--help"], 0.4),
    "import image_classifier.api": ("import image_classifier.api", [], 0.3),
    "import volvox.serving.app": ("import volvox.serving.app", [], 1.5),
}
_REPORT = """
import atexit, sys
sys.argv = ["volvox", *{arguments!r}]
atexit.register(lambda: print("\\nHEAVY", [name for name in {heavy!r} if name in sys.modules], file=sys.stderr))
{code}
"""


def measure(code: str, arguments: list[str]) -> tuple[float, list[str]]:
    """Processor seconds (user and system) of one fresh process, and which heavy packages it imported."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", _REPORT.format(arguments=arguments, heavy=HEAVY, code=code)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    heavy = done.stderr.rpartition("HEAVY ")[2].strip()
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime), json.loads(heavy.replace("'", '"'))


def main() -> int:
    """Print the table; return the exit code."""
    broken = 0
    print(f"{'what':32} {'CPU s: median':>14} {'min':>6} {'max':>6} {'limit':>6}  heavy imports")
    for name, (code, arguments, limit) in CASES.items():
        runs = [measure(code, arguments) for _ in range(RUNS)]
        seconds, heavy = [run[0] for run in runs], runs[-1][1]
        median = statistics.median(seconds)
        broken |= median > limit or bool(heavy)
        print(f"{name:32} {median:14.2f} {min(seconds):6.2f} {max(seconds):6.2f} {limit:6.2f}  {heavy or 'none'}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())

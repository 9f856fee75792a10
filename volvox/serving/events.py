"""A serving image that answers events instead of HTTP: in AWS Lambda, in a job of AWS Batch, in a task of ECS.

`volvox serve` does this where the environment says that it runs there, so one image does for all. A cold start is this
file's beginning: the process that holds the model is forked before anything else is imported, and what answers events
is imported while that one loads.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from volvox.serving.forked import ForkedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTIONS = frozenset({"--module", "--weights", "--batch", "--name", "--listen-ip", "--listen-port"})
_BATCH = "32"  # as `volvox serve` has it


def main(words: Sequence[str]) -> None:
    """Answer events as `volvox serve` with these words does, and end this process with the exit code.

    It returns, and nothing was done, where it takes the whole command line to understand the words.
    """
    if (told := _read(words)) is not None:
        code = serve(told["--module"], told["--weights"], int(told["--batch"]))
        sys.stdout.flush()
        sys.exit(code)


def serve(module: str, weights: str | None, batch: int) -> int:
    """Answer events with a module, until there are no more; an exit code.

    Args:
        module: A text that `volvox.worker.finding` reads.
        weights: Folder of the version's weights, or None.
        batch: How many calls the module answers at once, where it can.
    """
    if weights:
        os.environ["VOLVOX_WEIGHTS"] = weights
    log = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"volvox-model-{os.getpid()}.log")  # noqa: PTH118, S108
    forked = ForkedModel(module, log, batch=batch)
    forked.begin()
    from volvox.serving.event_calls import answer

    return answer(forked, log)


def _read(words: Sequence[str]) -> dict[str, str] | None:
    """The options of an image's own entry point; None if there are others, or more is to be found out about them."""
    given = dict(zip(words[::2], words[1::2], strict=False))
    if 2 * len(given) != len(words) or not _OPTIONS.issuperset(given):
        return None
    said = os.environ.get
    told = {"--module": said("DEEPAAS_V2_MODEL", ""), "--weights": said("VOLVOX_WEIGHTS", ""), "--batch": _BATCH}
    told.update(given)
    module, weights = told["--module"], told["--weights"]
    plain = module.replace("-", "_").isidentifier() and not os.path.exists(module)  # noqa: PTH110
    known = told["--batch"].isdecimal() and (not weights or os.path.isdir(weights))  # noqa: PTH112
    return told if plain and known else None

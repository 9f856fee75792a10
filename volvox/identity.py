"""Digests: what makes two things the same thing.

Every digest is the lower-case hexadecimal sha256 of bytes that do not depend on the machine, the order of files in a
folder or the time of day.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Encode `value` so that equal values give equal bytes: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: Any) -> str:
    """The sha256 of a JSON value in its canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, streamed."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """One digest for several files below `root`: their relative names and their bytes, in any order."""
    return digest_of(sorted([path.relative_to(root).as_posix(), file_digest(path)] for path in files))


def stage_key(stage: str, *, code: str = "", inputs: Iterable[str] = (), arguments: Any = None) -> str:
    """The identity of one run of a stage; the same key means the same result.

    Args:
        stage: The stage's name, e.g. `training`.
        code: Digest of the code that does the work (a module's, or a format number of ours).
        inputs: Digests of the input records, in the order of the stage's parameters.
        arguments: Anything JSON that changes the result.
    """
    return digest_of([stage, code, list(inputs), arguments])


def process_started(pid: int) -> float | None:
    """When process `pid` began, in clock ticks since boot, or None if there is no such process.

    A pid is used again after a while; pid and start together name one process for good.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else float(fields[19])


def this_process() -> tuple[int, float]:
    """Pid and start of the calling process."""
    return os.getpid(), process_started(os.getpid()) or 0.0

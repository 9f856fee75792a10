"""The files of a job, in a folder of its own: `<server's folder>/jobs/<uuid>/`.

`request.json` is what was asked, `uploads/` the files that came with it, `given/` the links to them that the module
gets and may remove, `log` what was printed, `result.json` or `result` the answer; of a training also `output/`,
`checkpoints/` and `weights/`, the version it may start from.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

_UUID = re.compile(r"[0-9a-f]{32}")
_TAIL = 16 << 10
_ENVIRONMENT = "VOLVOX_JOB"


class JobFiles:
    """The folders of all jobs of one server."""

    def __init__(self, folder: Path) -> None:
        """`folder` is `<server's folder>/jobs`."""
        self.folder = folder

    def of(self, uuid: str) -> Path:
        """The folder of job `uuid`."""
        return self.folder / uuid

    def create(self, uuid: str, request: dict[str, Any], weights: Path | None, *, keep_weights: bool) -> str:
        """Keep what was asked: the uploads are moved here from where they lie.

        Args:
            uuid: The job.
            request: One of `volvox.worker.answering`.
            weights: Folder of the version that a training may start from.
            keep_weights: Whether that folder may be removed before the job ends, so that it is linked here.

        Returns:
            The folder that the training finds as VOLVOX_WEIGHTS; empty if there is none.
        """
        folder = self.of(uuid)
        (folder / "uploads").mkdir(parents=True)
        moved: dict[str, list[dict[str, str]]] = {}
        for name, files in (request.get("files") or {}).items():
            for told in files:
                kept = folder / "uploads" / Path(told["path"]).name
                Path(told["path"]).rename(kept)
                moved.setdefault(name, []).append({**told, "path": kept.name})
        _write(folder / "request.json", json.dumps({**request, "files": moved}).encode())
        if weights is None or not weights.is_dir():
            return ""
        if not keep_weights:
            return str(weights)
        shutil.copytree(weights, folder / "weights", copy_function=_link)
        return str(folder / "weights")

    def request(self, uuid: str) -> dict[str, Any]:
        """What was asked; every run gets links of the uploads that are its own."""
        folder = self.of(uuid)
        shutil.rmtree(folder / "given", ignore_errors=True)
        (folder / "given").mkdir()
        request = json.loads((folder / "request.json").read_text())
        for files in request["files"].values():
            for told in files:
                given = folder / "given" / told["path"]
                _link(folder / "uploads" / told["path"], given)
                told["path"] = str(given)
        return request

    def places(self, uuid: str, weights: str) -> dict[str, Path]:
        """Where a training writes and may start from."""
        places = {name: self.of(uuid) / name for name in ("output", "checkpoints")}
        for place in places.values():
            place.mkdir(exist_ok=True)
        if weights:
            places["weights"] = Path(weights)
        if data := os.environ.get("VOLVOX_DATA"):
            places["data"] = Path(data)
        return places

    def has_checkpoints(self, uuid: str) -> bool:
        """Whether a training has left something to go on from."""
        return any(path.is_file() for path in (self.of(uuid) / "checkpoints").rglob("*"))

    def write_result(self, uuid: str, content_type: str, body: bytes) -> None:
        """Keep the answer: it is there as a whole or not at all."""
        _write(self.result(uuid, content_type), body)

    def result(self, uuid: str, content_type: str) -> Path:
        """The file of an answer of `content_type`."""
        return self.of(uuid) / ("result.json" if content_type.startswith("application/json") else "result")

    def log(self, uuid: str) -> Path:
        """The file with what was printed; it need not be there."""
        return self.of(uuid) / "log"

    def add_to_log(self, uuid: str, text: str) -> None:
        """Add lines to the log."""
        with self.log(uuid).open("a") as stream:
            stream.write(text.rstrip("\n") + "\n")

    def progress_file(self, uuid: str) -> Path:
        """The file with one JSON line a step; it need not be there."""
        return self.of(uuid) / "output" / "progress.jsonl"

    def progress(self, uuid: str) -> dict[str, Any] | None:
        """The last step that a training told of: `done`, `total`, `unit`, `metrics`, and what else it says."""
        try:
            with self.progress_file(uuid).open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - _TAIL))
                lines = stream.read().split(b"\n")[:-1]
        except OSError:
            return None
        return next((told for line in reversed(lines) if (told := step(line)) is not None), None)

    def tidy(self, uuid: str) -> None:
        """Remove what only a job that still runs needs."""
        for name in ("given", "checkpoints", "weights"):
            shutil.rmtree(self.of(uuid) / name, ignore_errors=True)

    def remove(self, uuid: str) -> None:
        """Remove everything of job `uuid`."""
        shutil.rmtree(self.of(uuid), ignore_errors=True)

    def remove_strangers(self, known: set[str]) -> None:
        """Remove the folders of jobs that were being made or removed when a server was killed."""
        for folder in self.folder.iterdir():
            if _UUID.fullmatch(folder.name) and folder.name not in known and folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)


def step(line: bytes) -> dict[str, Any] | None:
    """One line of `progress.jsonl`; None if it is none. A metric that is no number is null: JSON has no NaN."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    return {"done": None, "total": None, "unit": "", "metrics": {}, **finite(told)}


def finite(value: Any) -> Any:
    """`value` with null for every number that JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


def marked(uuid: str) -> dict[str, str]:
    """Environment that the processes of job `uuid` are known by."""
    return {_ENVIRONMENT: uuid}


def end_processes(uuid: str, seconds: float = 5.0) -> None:
    """Kill whatever of job `uuid` still runs, also what has left its process group, and wait until it is gone."""
    end = time.monotonic() + seconds
    while (found := _processes(uuid)) and time.monotonic() < end:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes(uuid: str) -> list[int]:
    mark = f"{_ENVIRONMENT}={uuid}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            # Another user's process, one that ended meanwhile, or one that has ended and was not collected: not ours.
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def _write(path: Path, body: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _link(source: Any, target: Any) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that has no links
        shutil.copy2(source, target)

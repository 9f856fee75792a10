"""Calls that come as one event, inside of an image: files are fetched, answered together, and published or sent back.

An event of ours is `{"volvox": {"function": NAME, "model": BOOLEAN, "arguments": {...}, "accept": TEXT, "calls":
[CALL]}}`, a CALL what `volvox.runtimes.interface.Call` is, with

* `file`: `{"name", "content"}` (base64), `{"name", "bucket", "key", "version"}`, or nothing;
* `outputs`: the places that answers go to, `{"url", "bucket", "folder", "prefix", "suffix"}` each; none: they are sent
  back, and where they are too large for that, written below `scratch`, `{"bucket", "prefix"}`.

The reply is `{"volvox": {"instance", "answered", "version", "outcomes": [OUTCOME]}}`, an OUTCOME what
`volvox.runtimes.interface.Outcome` is, with `log` (the end of what was printed) and `files` (`{"path", "content"}` or
`{"path", "key"}` each).
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import os
import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from volvox.runner import naming
from volvox.runner.objects import Bucket, Trouble
from volvox.runner.outputs import Written, collect, fits
from volvox.runner.signing import KeyRing

REPLY_BYTES = 3 << 20  # of files in a reply, before base64: Lambda takes 6 MB of it in all, with what was printed
_LOG_BYTES = 64 << 10
INSTANCE = uuid.uuid4().hex  # of this process: by it whoever asks knows warm ones apart


@dataclass
class Given:
    """One call with its file here.

    Attributes:
        told: The call as it came.
        folder: Of this call alone.
        input: The file, or None.
        output: An empty folder for what is written.
        log: File for what is printed.
        seconds: How long it may take.
        limited: Whether that is less than the call itself allows, since the engine ends it then.
    """

    told: dict[str, Any]
    folder: Path
    input: Path | None
    output: Path
    log: Path
    seconds: float
    limited: bool = False


Answer = Callable[["list[Given]", "dict[str, Any]"], "list[dict[str, Any]]"]
"""Answers calls of an event; of each `{"kind", "reason", ...}` as outcomes have it, in their order."""


class Calls:
    """Answers events, one after the other."""

    def __init__(self, answer: Answer, ring: KeyRing | None = None, folder: Path | None = None) -> None:
        """Answer them by `answer`.

        Args:
            answer: The model's or the script's part.
            ring: Whose requests to buckets are made; none: those of this container's role.
            folder: Where files lie meanwhile; none: the disk for temporary files.
        """
        self._answer, self._ring = answer, ring or KeyRing()
        self._folder = folder or Path(tempfile.gettempdir())
        self._answered = 0

    def handle(self, event: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """The reply to an event.

        Args:
            event: The event.
            seconds: How long this process may be at it, if there is an end.
        """
        told = event["volvox"]
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="volvox-calls-", dir=str(self._folder)))
        try:
            outcomes: list[dict[str, Any] | None] = []
            given: list[Given] = []
            for number, call in enumerate(told["calls"]):
                try:
                    given.append(self._given(call, folder / str(number)))
                    outcomes.append(None)
                except Trouble as error:
                    outcomes.append(_outcome(call, kind=error.kind, reason=str(error)))
            left = None if seconds is None else seconds - (time.monotonic() - began)
            for one in given:
                if left is not None and left < one.seconds:
                    one.seconds, one.limited = max(0.0, left), True
            answers = iter(self._answer(given, told) if given else [])
            room = [REPLY_BYTES]
            for number, outcome in enumerate(outcomes):
                if outcome is None:
                    one, answer = given.pop(0), next(answers)
                    outcomes[number] = self._published(one, answer, room)
        finally:
            shutil.rmtree(str(folder), ignore_errors=True)
        self._answered += 1
        return {
            "volvox": {
                "instance": INSTANCE,
                "answered": self._answered,
                "version": os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
                "outcomes": outcomes,
            }
        }

    def _given(self, call: dict[str, Any], folder: Path) -> Given:
        output = folder / "output"
        output.mkdir(parents=True)
        stated = float(call.get("timeout_seconds") or 300.0)
        found = Given(call, folder, None, output, folder / "log", stated)
        file = call.get("file")
        if file:
            found.input = folder / "file"
            if "content" in file:
                try:
                    found.input.write_bytes(base64.b64decode(file["content"]))
                except (binascii.Error, ValueError):
                    raise Trouble("refused", "the file of the call is not in base64") from None
            else:
                Bucket(file["bucket"], self._ring).fetch(file["key"], found.input, file.get("version", ""))
        return found

    def _published(self, one: Given, answer: dict[str, Any], room: list[int]) -> dict[str, Any]:
        """What became of a call, its answer where it belongs."""
        call = one.told
        outcome = _outcome(call, **answer)
        outcome["log"] = _tail(one.log)
        if one.limited and outcome["kind"] == "timeout":
            outcome["limited"] = True
        if outcome["kind"]:
            return outcome
        found, refused = collect(one.output)
        outcome["notes"] = [*outcome["notes"], *refused]
        try:
            if call.get("outputs"):
                outcome["outputs"] = [told for place in call["outputs"] for told in self._put(call, place, found)]
            else:
                outcome["files"] = [self._sent(call, written, room) for written in found]
        except Trouble as error:
            kind = error.kind if error.kind in ("transient", "payload") else "unpublished"
            outcome.update(kind=kind, reason=f"its answer could not be published: {error}")
        except ValueError as error:
            outcome.update(kind="failed", reason=str(error))
        return outcome

    def _put(self, call: dict[str, Any], place: dict[str, Any], found: list[Written]) -> list[dict[str, Any]]:
        bucket, made = Bucket(place["bucket"], self._ring), []
        for written in found:
            if not fits(written.relative, place.get("prefix") or (), place.get("suffix") or ()):
                continue
            name = written.relative
            if call.get("model"):
                name = naming.model_answer(call["relative"], call["job"], name)
            elif call.get("per_user"):
                name = f"{call['user']}/{name}"
            key = naming.below(place.get("folder", ""), name)
            kind = mimetypes.guess_type(written.relative)[0] or "application/octet-stream"
            bucket.put(key, written.path, content_type=kind, once=bool(call.get("model")))
            made.append({"url": place["url"], "key": key, "size": written.size})
        return made

    def _sent(self, call: dict[str, Any], written: Written, room: list[int]) -> dict[str, Any]:
        if written.size <= room[0]:
            room[0] -= written.size
            return {"path": written.relative, "content": base64.b64encode(written.path.read_bytes()).decode()}
        scratch = call.get("scratch")
        if not scratch:
            raise Trouble(
                "payload", f"its answer {written.relative} has {written.size} bytes, more than a reply may have"
            )
        key = f"{scratch['prefix']}/{call['job']}/{uuid.uuid4().hex}/{written.relative}"
        Bucket(scratch["bucket"], self._ring).put(key, written.path)
        return {"path": written.relative, "key": key}


def _outcome(call: dict[str, Any], **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"job": call["job"], "kind": "", "reason": "", "exit_code": None, "seconds": 0.0}
    told.update({"printed": "", "notes": [], "outputs": [], "files": [], "log": ""})
    told.update(more)
    return told


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _LOG_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""

"""What a script is given: variables, its file under the file's own name, the event, and how it is started."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

LARGEST_VARIABLE = 96 * 1024  # the kernel takes 128 KB for one variable with its name
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Work:
    """One run of a script or command.

    Attributes:
        folder: Folder of this run alone: gets `input/`, `script`, `event.json` and `tmp/`.
        output: Folder for what it writes.
        script: Text of the script; empty: `command` is run.
        command: Program and arguments.
        input: The file it is about; empty: there is none.
        key: The object's key.
        relative: The key below the function's input folder.
        event: The notification, JSON.
        event_time: ISO 8601.
        job: The job's id.
        function: The function's name.
        arguments: Of the call; each is the variable `ARGUMENT_NAME` too.
        environment: Further variables; they go before ours.
        timeout_seconds: How long it may take.
        memory_mb: Main memory that its processes may use together; 0: not watched.
        storage_mb: Disk that it may fill in `output` and `folder`; 0: not watched.
        log: File that what it prints is added to; empty: nowhere.
        result: File that says what became of it.
    """

    folder: str
    output: str
    script: str = ""
    command: tuple[str, ...] = ()
    input: str = ""
    key: str = ""
    relative: str = ""
    event: str = ""
    event_time: str = ""
    job: str = ""
    function: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    timeout_seconds: float = 300.0
    memory_mb: int = 0
    storage_mb: int = 0
    log: str = ""
    result: str = ""

    def as_json(self) -> str:
        """As the runner's process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Work:
        """What `as_json` gave."""
        told = json.loads(text)
        return cls(**{**told, "command": tuple(told["command"])})


@dataclass(frozen=True)
class Paths:
    """Where the script finds things; in a container these are others than outside.

    Attributes:
        input_folder: `TMP_INPUT_DIR`.
        output_folder: `TMP_OUTPUT_DIR`.
        script: The script.
        event: A file with the event.
        tmp: For temporary files.
    """

    input_folder: str
    output_folder: str
    script: str
    event: str
    tmp: str

    @classmethod
    def of(cls, work: Work) -> Paths:
        """Those of a run on this machine."""
        folder = Path(work.folder)
        return cls(
            str(folder / "input"), work.output, str(folder / "script"), str(folder / "event.json"), str(folder / "tmp")
        )


def prepare(work: Work) -> None:
    """Write what a run needs into its folder; the file is linked there under its own name, or copied."""
    paths = Paths.of(work)
    for folder in (paths.input_folder, paths.output_folder, paths.tmp):
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - texts here
    Path(paths.event).write_text(work.event)
    if work.script:
        # Written on another system it may have line ends that an interpreter takes for a part of its name.
        Path(paths.script).write_bytes(work.script.lstrip("\ufeff").replace("\r\n", "\n").encode())
        os.chmod(paths.script, 0o755)  # noqa: PTH101, S103 - another user may run it
    if work.input:
        target = Path(paths.input_folder, file_name(work))
        if not target.exists():
            try:
                os.link(work.input, target)
            except OSError:  # another disk
                shutil.copyfile(work.input, target)


def file_name(work: Work) -> str:
    """The name of its file, as the object's key ends; one that no disk takes is made shorter."""
    name = PurePosixPath(work.relative or work.key).name or Path(work.input).name or "input"
    if name in (".", "..") or "\0" in name:
        return "input"
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - both parts
    suffix = suffix if len(suffix.encode()) <= 32 else ""
    while len((stem + suffix).encode()) > _LONGEST_NAME:
        stem = stem[:-1]
    return stem + suffix


def command_of(work: Work, paths: Paths) -> list[str]:
    """What is started: by the script's own interpreter line, and /bin/sh for a script without one."""
    if not work.script:
        return list(work.command)
    first = work.script.lstrip("\ufeff").splitlines()[0] if work.script.strip() else ""
    if not first.startswith("#!"):
        return ["/bin/sh", paths.script]
    # As the kernel does: the interpreter, and the rest of the line as one argument.
    program, _, argument = first[2:].strip().partition(" ")
    if not program:
        return ["/bin/sh", paths.script]
    return [program, argument.strip(), paths.script] if argument.strip() else [program, paths.script]


def variables(work: Work, paths: Paths) -> dict[str, str]:
    """What the script finds in its environment, beside what its image or this machine gives."""
    folder = str(PurePosixPath(work.relative).parent) if work.relative else ""
    given = {
        "TMP_INPUT_DIR": paths.input_folder,
        "SCAR_INPUT_DIR": paths.input_folder,
        "TMP_OUTPUT_DIR": paths.output_folder,
        "SCAR_OUTPUT_DIR": paths.output_folder,
        "STORAGE_OBJECT_KEY": work.key,
        "STORAGE_OBJECT_FOLDER": "" if folder == "." else folder,
        "EVENT_TIME": work.event_time,
        "EVENT_FILE_PATH": paths.event,
        "REQUEST_ID": work.job,
        "JOB_UUID": work.job,
        "OSCAR_SERVICE_NAME": work.function,
        "RESOURCE_ID": socket.gethostname(),
    }
    if work.input:
        file = f"{paths.input_folder}/{file_name(work)}"
        given.update({"INPUT_FILE_PATH": file, "SCAR_INPUT_FILE": file})
    if len(work.event.encode()) <= LARGEST_VARIABLE:
        given["EVENT"] = work.event
    for name, value in work.arguments.items():
        text = value if isinstance(value, str) else json.dumps(value)
        given["ARGUMENT_" + re.sub(r"\W", "_", name).upper()] = text
    given.update(work.environment)
    return {name: value for name, value in given.items() if "\0" not in value}

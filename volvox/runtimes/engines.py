"""The command lines by which containers are run, of every engine that may be there: one builder for all of them."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from volvox.errors import InvalidInput, Unavailable

Kind = Literal["docker", "podman", "udocker", "apptainer"]
KINDS: tuple[Kind, ...] = ("docker", "podman", "udocker", "apptainer")

# Of a script's container: what a package manager or `su` inside needs, and no more.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
_PIDS = 4096
_TMP_MB = 256
# Variables that the engine's own command line reads: given by value there, all others are taken from its environment.
_READ_BY_ENGINES = ("PATH", "HOME", "DOCKER_", "CONTAINER", "XDG_", "APPTAINER", "SINGULARITY", "UDOCKER", "LD_", "TMP")


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine that a container sees."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Container:
    """What is to run.

    Attributes:
        name: Its name.
        image: A reference, or the engine's id of one.
        command: Program and arguments in place of the image's own; empty: that.
        arguments: Behind the image's own program.
        environment: Its variables.
        mounts: What it sees of this machine.
        labels: What it is found by.
        user: Number of user and group, `1000:1000`; empty: the image's own.
        memory_mb: Limit of main memory; 0: none.
        cpu: Limit of cores; 0: none.
        gpus: How many GPUs.
        port: A port of it that is published on a free port of 127.0.0.1; 0: none, and it gets its standard input.
    """

    name: str
    image: str
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    memory_mb: int = 0
    cpu: float = 0.0
    gpus: int = 0
    port: int = 0


def found(wanted: str = "") -> tuple[Kind, str]:
    """The engine that is used, and where its program is: the one that is wanted, else the first there is.

    Raises:
        InvalidInput: If that is none we know.
        Unavailable: If it is not installed.
    """
    if wanted and wanted not in KINDS:
        raise InvalidInput(f"{wanted!r} is no container engine; name {', '.join(KINDS)}")
    kinds: list[Kind] = [kind for kind in KINDS if kind == wanted or not wanted]
    for kind in kinds:
        for program in (kind, "singularity") if kind == "apptainer" else (kind,):
            if path := shutil.which(program):
                return kind, path
    raise Unavailable(f"no container engine is installed here: none of {', '.join(kinds)} is found")


def run(kind: Kind, program: str, container: Container) -> tuple[list[str], dict[str, str]]:
    """The command line that runs a container, and variables of its process; values of secrets are in these only.

    Raises:
        InvalidInput: If this engine cannot run it.
    """
    if kind in ("docker", "podman"):
        return _docker(kind, program, container)
    if container.port:
        raise InvalidInput(f"{kind} cannot keep a model's server; a model needs docker or podman")
    return _udocker(program, container) if kind == "udocker" else _apptainer(program, container)


def _docker(kind: Kind, program: str, asked: Container) -> tuple[list[str], dict[str, str]]:
    line = [program, "run", "--name", asked.name, "--init", "--security-opt", "no-new-privileges"]
    line += ["--cap-drop", "ALL", "--pids-limit", str(_PIDS)]
    if asked.port:
        line += ["--detach", "--read-only", "--tmpfs", f"/tmp:size={_TMP_MB}m,mode=1777"]  # noqa: S108 - inside of it
        line += ["--publish", f"127.0.0.1::{asked.port}"]
    else:
        line += ["--interactive", *(f"--cap-add={name}" for name in _CAPABILITIES)]
    line += [f"--label={name}={value}" for name, value in sorted(asked.labels.items())]
    if asked.memory_mb:
        line += ["--memory", f"{asked.memory_mb}m", "--memory-swap", f"{asked.memory_mb}m"]
    if asked.cpu:
        line += ["--cpus", f"{asked.cpu:g}"]
    if asked.gpus and kind == "docker":
        line += ["--gpus", str(asked.gpus)]
    elif asked.gpus:
        line += [f"--device=nvidia.com/gpu={number}" for number in range(asked.gpus)]
    if asked.user:
        line += ["--user", asked.user]
    for mount in asked.mounts:
        fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
        line += ["--mount", _csv([*fields, *([] if mount.writable else ["readonly"])])]
    line += _variables(asked.environment, "--env")
    if asked.command:
        line += ["--entrypoint", asked.command[0]]
    line += [asked.image, *asked.command[1:], *asked.arguments]
    return line, {name: value for name, value in asked.environment.items() if not _read_by_engines(name)}


def _udocker(program: str, asked: Container) -> tuple[list[str], dict[str, str]]:
    line = [program, "--quiet", "run", "--nobanner", "--rm"]
    line += [f"--volume={mount.source}:{mount.target}" for mount in asked.mounts]
    line += [f"--env={name}={value}" for name, value in asked.environment.items()]  # it takes them no other way
    if asked.user:
        line += [f"--user={asked.user.partition(':')[0]}"]
    if asked.command:
        line += [f"--entrypoint={asked.command[0]}"]
    return [*line, asked.image, *asked.command[1:], *asked.arguments], {}


def _apptainer(program: str, asked: Container) -> tuple[list[str], dict[str, str]]:
    line = [program, "--silent", "exec" if asked.command else "run", "--containall", "--cleanenv", "--writable-tmpfs"]
    for mount in asked.mounts:
        line += ["--mount", _csv(["type=bind", f"source={mount.source}", f"destination={mount.target}",
                                  *([] if mount.writable else ["ro"])])]  # fmt: skip
    if asked.memory_mb:
        line += ["--memory", f"{asked.memory_mb}M"]
    if asked.cpu:
        line += ["--cpus", f"{asked.cpu:g}"]
    if asked.gpus:
        line += ["--nv"]
    image = asked.image if "://" in asked.image or asked.image.startswith("/") else f"docker://{asked.image}"
    line += [image, *asked.command, *asked.arguments]
    return line, {f"APPTAINERENV_{name}": value for name, value in asked.environment.items()}


def _variables(environment: Mapping[str, str], option: str) -> list[str]:
    """By name only where the engine may take the value from its own environment: command lines can be read by all."""
    line = []
    for name, value in environment.items():
        line += [option, f"{name}={value}" if _read_by_engines(name) else name]
    return line


def _read_by_engines(name: str) -> bool:
    return (name.upper().startswith(_READ_BY_ENGINES) and not name.startswith("TMP_")) or name.lower().endswith(
        "_proxy"
    )


def _csv(fields: list[str]) -> str:
    """As engines read it: a path may have commas and quotes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()

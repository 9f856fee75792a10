"""What runs in the pod of a script: a shell's program around it that needs nothing of us in the image.

The image must have `/bin/sh`, `tar`, `head`, `tee`, `mkfifo` and `sleep`, as those with coreutils or BusyBox do. The
program waits until the dispatcher has brought file, event, script and variables through the cluster's API, runs the
script, says how it ended, and waits until its outputs were taken. So the image gets no credentials and no Python, any
place will do, and neither the pod must reach the dispatcher or the store nor the other way round.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from volvox.runner.running import ANSWER_BYTES
from volvox.runner.work import Paths, Work, command_of, prepare, variables
from volvox.runtimes.pods.manifests import WORK

INSIDE = Paths(f"{WORK}/input", f"{WORK}/output", f"{WORK}/script", f"{WORK}/event.json", "/tmp")  # noqa: S108
ENDED, ANSWER, OUTPUT = "ended", "answer", "output"
LACKING = 125  # what the program ends with if the image has not what it needs
_BLOCK = 512
_PIECE = 1 << 16
_EXPORTABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# $1: the folder. As the first process of its container it may end all others there; elsewhere it ends its own only.
_PROGRAM = r"""
F=$1 pid=
ending() {
  trap '' TERM
  if [ $$ = 1 ]; then kill -TERM -1 2>/dev/null; elif [ -n "$pid" ]; then kill -TERM "$pid" 2>/dev/null; fi
  [ -n "$pid" ] && wait "$pid" 2>/dev/null
  exit 143
}
trap ending TERM
killed() {
  for f in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    if [ -r $f ]; then
      while read -r a b; do if [ "$a" = oom_kill ]; then echo "$b"; return; fi; done < $f
    fi
  done
  echo 0
}
n=0
until [ -e "$F/go" ]; do n=$((n + 1)); [ $n -gt 12000 ] && exit 124; sleep 0.05; done
mkdir -p "$F/output" && mkfifo "$F/pipe" && command -v tee > /dev/null || exit 125
before=$(killed)
tee "$F/printed" < "$F/pipe" & tee=$!
/bin/sh "$F/start" < "$F/event.json" > "$F/pipe" & pid=$!
wait $pid
code=$?
(sleep 0.5; kill $tee) > /dev/null 2>&1 & late=$!
wait $tee
kill $late 2>/dev/null
echo "$code $(($(killed) - before))" > "$F/ended.part"
cat "$F/token"
cat "$F/token" >&2
mv "$F/ended.part" "$F/ended"
n=0
until [ -e "$F/taken" ]; do n=$((n + 1)); [ $n -gt 6000 ] && break; sleep 0.1; done
exit $code
"""
_TAKEN_IN = 'head -c "$2" | tar -C "$1" -xof - && : > "$1/go"'
_TAKEN_OUT = (
    'until [ -e "$1/ended" ]; do sleep 0.1; done; cd "$1" || exit 9; '
    f'head -c {ANSWER_BYTES} printed > {ANSWER}; tar -cf - {ENDED} {ANSWER} {OUTPUT}'
)  # fmt: skip


def program(folder: str = WORK) -> tuple[str, ...]:
    """The command of the script's container."""
    return ("/bin/sh", "-c", _PROGRAM, "volvox", folder)


def bringing(size: int, folder: str = WORK) -> tuple[str, ...]:
    """The command that takes an archive of `size` bytes from its standard input, and lets the script begin."""
    return ("/bin/sh", "-c", _TAKEN_IN, "volvox", folder, str(size))


def fetching(folder: str = WORK) -> tuple[str, ...]:
    """The command that waits for the script's end and writes what came of it as an archive."""
    return ("/bin/sh", "-c", _TAKEN_OUT, "volvox", folder)


def leaving(folder: str = WORK) -> tuple[str, ...]:
    """The command that lets the program end."""
    return ("/bin/sh", "-c", ': > "$1/taken"', "volvox", folder)


def archive(
    work: Work, token: str, given: Mapping[str, str | None], paths: Paths = INSIDE
) -> tuple[int, Iterator[bytes]]:
    """What a script is given, as the bytes of an archive, read as they are asked for.

    Args:
        work: What it is.
        token: A line that tells the end of what it prints, on its standard output and on its standard error.
        given: Variables beside those of the work; None: its container has its own.
        paths: Where it finds things.

    Returns:
        How many bytes these are, and the bytes.
    """
    prepare(work)
    folder = Path(work.folder)
    told = {**variables(work, paths), **given}
    start = _start(command_of(work, paths), {name: value for name, value in told.items() if value is not None})
    files: list[tuple[str, int, bytes | Path]] = [
        ("start", 0o700, start.encode(errors="surrogateescape")),
        ("token", 0o600, f"{token}\n".encode()),
        ("event.json", 0o600, folder / "event.json"),
    ]
    if work.script:
        files.append(("script", 0o700, folder / "script"))
    found = sorted(path for path in (folder / "input").iterdir() if path.is_file())
    files += [(f"input/{path.name}", 0o600, path) for path in found]
    headers = [_header(name, mode, content) for name, mode, content in files]
    folders = _folder("input")
    size = len(folders) + sum(map(len, headers)) + sum(_padded(_size(content)) for _, _, content in files) + 2 * _BLOCK
    return size, _bytes(folders, headers, [content for _, _, content in files])


def unpack(source: Path, output: Path) -> tuple[int, int, bytes]:
    """Take out of the archive that `fetching` wrote what the script did.

    Plain files come into `output`; links and pipes too, as what they are, after everything else, so that none leads a
    file elsewhere.

    Returns:
        The script's exit code, how many of its processes the kernel has ended for lack of memory, what it printed.

    Raises:
        tarfile.TarError: If the archive is no whole one.
    """
    told, printed, later = "", b"", list[tarfile.TarInfo]()
    with tarfile.open(source, errorlevel=1) as archive:
        for entry in archive:
            parts = PurePosixPath(entry.name).parts
            if entry.name == ENDED:
                told = _read(archive, entry).decode()
            elif entry.name == ANSWER:
                printed = _read(archive, entry)[:ANSWER_BYTES]
            elif parts[:1] != (OUTPUT,) or ".." in parts:
                continue
            elif entry.isdir():
                output.joinpath(*parts[1:]).mkdir(parents=True, exist_ok=True)
            elif entry.isreg():
                _write(archive, entry, output.joinpath(*parts[1:]))
            else:
                later.append(entry)
    for entry in later:
        with contextlib.suppress(FileExistsError):
            _special(output, entry)
    code, _, killed = told.strip().partition(" ")
    if not code.isdecimal():
        raise tarfile.ReadError("it does not say how the script ended")
    return int(code), int(killed or 0), printed


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    stream = archive.extractfile(entry)
    assert stream is not None
    with target.open("wb") as written:
        while piece := stream.read(_PIECE):
            written.write(piece)


def _special(output: Path, entry: tarfile.TarInfo) -> None:
    """A link or a pipe, as it is: what collects outputs says that it is left out, and why."""
    target = output.joinpath(*PurePosixPath(entry.name).parts[1:])
    if not target.parent.resolve().is_relative_to(output.resolve()):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.islnk():
        _again(output, entry, target)
    elif entry.issym():
        target.symlink_to(entry.linkname)
    else:
        os.mkfifo(target)


def _again(output: Path, entry: tarfile.TarInfo, target: Path) -> None:
    """A second name of a file that was taken out before."""
    parts = PurePosixPath(entry.linkname).parts
    if parts[:1] == (OUTPUT,) and ".." not in parts and (first := output.joinpath(*parts[1:])).is_file():
        os.link(first, target, follow_symlinks=False)


def _read(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(entry)
    return stream.read() if stream else b""


def _start(command: Sequence[str], given: Mapping[str, str]) -> str:
    """The shell's program that sets the variables and becomes the script."""
    lines = ['[ -w "${HOME:-/none}" ] || export HOME=/tmp']
    lines += [f"export {name}={shlex.quote(value)}" for name, value in given.items() if _EXPORTABLE.fullmatch(name)]
    others = [shlex.quote(f"{name}={value}") for name, value in given.items() if not _EXPORTABLE.fullmatch(name)]
    words = [*(["env", *others] if others else []), *(shlex.quote(word) for word in command)]
    return "\n".join([*lines, f"exec {' '.join(words)}", ""])


def _header(name: str, mode: int, content: bytes | Path) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = _size(content), mode
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _folder(name: str) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o700
    return entry.tobuf(tarfile.GNU_FORMAT)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _bytes(folders: bytes, headers: list[bytes], contents: list[bytes | Path]) -> Iterator[bytes]:
    yield folders
    for header, content in zip(headers, contents, strict=True):
        yield header
        size = 0
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
            while piece := stream.read(_PIECE):
                size += len(piece)
                yield piece
        yield bytes(_padded(size) - size)
    yield bytes(2 * _BLOCK)

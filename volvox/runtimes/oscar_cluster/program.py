"""The script of a service, and what goes into and comes out of it.

OSCAR gives a script its event or file and takes what it writes; it keeps no exit code, shows a log when all is over,
and knows no limit of time. So a call of the dispatcher comes as an archive that also holds the script's own start, and
what comes back is an archive that also says how the script ended and what it printed. Anything else that a service is
sent, by others, is given to the function's script as OSCAR gives it.

The image must have `/bin/sh`, `tar`, `head`, `tail`, `tee`, `mkfifo` and `sleep`; with `setsid` and `grep`, as those
with coreutils or BusyBox have, nothing that the script leaves behind goes on.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import shlex
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.packaging.context import PORT
from volvox.runner.running import ANSWER_BYTES
from volvox.runner.work import Paths, Work, command_of
from volvox.runtimes import asking
from volvox.runtimes.pods import wrapping

MARK = "volvox-call"  # how an archive of ours begins, and the name of what comes out
OVER = "volvox-over"
LACKING = "volvox: a call needs"
IN, OUT = "in", "out"
_LOG_BYTES = 64 << 20
_BLOCK = 512
_OWN = ("ended", "answer", "said", "took", "late")

_PROGRAM = rf"""
  set -- $(tar -xOf "$INPUT_FILE_PATH" {MARK})
  F=$1 token=$2 how=$3 seconds=$4 name=$5 out=$TMP_OUTPUT_DIR
  [ "$how" = none ] && echo "{MARK} $token" && exit 0
  umask 077
  set --
  say=/dev/null
  # The supervisor shows what is printed when all is over; its own output is shown at once.
  [ "$how" = job ] && [ -w "/proc/$PPID/fd/1" ] && say=/proc/$PPID/fd/1
  [ "$how" = job ] && [ $say = /dev/null ] && echo "{MARK} $token"
  echo "{MARK} $token" >> $say
  mkdir -p "$F" && tar -C "$F" -xof "$INPUT_FILE_PATH" && mkdir -p "$F/output" && mkfifo "$F/pipe" || {{
    echo "{LACKING} tar, mkfifo and a /tmp that can be written in the image"; exit 125
  }}
  killed() {{
    for f in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
      if [ -r $f ]; then
        while read -r a b; do if [ "$a" = oom_kill ]; then echo "$b"; return; fi; done < $f
      fi
    done
    echo 0
  }}
  end() {{
    for p in /proc/[0-9]*; do
      if grep -q "VOLVOX_CALL=$token" "$p/environ" 2>/dev/null; then kill "-$1" "${{p#/proc/}}" 2>/dev/null; fi
    done
  }}
  before=$(killed)
  : > "$F/log"
  read -r began rest < /proc/uptime
  tail=
  if [ $say != /dev/null ]; then tail -n +1 -f "$F/log" >> $say 2>/dev/null & tail=$!; fi
  tee "$F/printed" < "$F/pipe" >> "$F/log" 2>/dev/null & tee=$!
  export VOLVOX_CALL=$token
  unset EVENT EVENT_TIME INPUT_FILE_PATH STORAGE_OBJECT_KEY  # those of the archive, which are not the call's
  if command -v setsid > /dev/null; then
    setsid /bin/sh "$F/start" < "$F/event.json" > "$F/pipe" 2>> "$F/log" & pid=$!
    group=-$pid
  else
    /bin/sh "$F/start" < "$F/event.json" > "$F/pipe" 2>> "$F/log" & pid=$!
    group=$pid
  fi
  (
    sleep "$seconds"; : > "$F/late"
    kill -TERM -- $group; end TERM; sleep 3; kill -KILL -- $group; end KILL
  ) > /dev/null 2>&1 & watch=$!
  wait $pid
  code=$?
  read -r over rest < /proc/uptime
  kill $watch 2>/dev/null
  kill -KILL -- $group 2>/dev/null
  end KILL
  (sleep 0.5; kill $tee) > /dev/null 2>&1 & last=$!
  wait $tee 2>/dev/null
  kill $last 2>/dev/null
  late=
  [ -e "$F/late" ] && late=late
  echo "$code $(($(killed) - before))" > "$F/ended"
  echo "$began $over" > "$F/took"
  head -c {ANSWER_BYTES} "$F/printed" > "$F/answer"
  head -c {_LOG_BYTES} "$F/log" > "$F/said"
  (cd "$F" && tar -cf taken.tar ended answer said took $late output) && mv "$F/taken.tar" "$out/$name"
  moved=$?
  if [ -n "$tail" ]; then sleep 0.2; kill $tail; wait $tail 2>/dev/null; echo "{OVER} $token" >> $say; fi
  rm -rf "$F"
  exit $moved
"""


@dataclass(frozen=True)
class Given:
    """What a call says of itself to the program.

    Attributes:
        token: Names this attempt, in logs and folders.
        how: `run` or `job`; `none`: nothing is to be done any more.
        seconds: How long the script may take.
        name: Of the archive that comes out.
    """

    token: str
    how: str
    seconds: float
    name: str

    @property
    def folder(self) -> str:
        """Where it is done, in the container."""
        return f"/tmp/volvox-{self.token}"  # noqa: S108 - inside of it

    @property
    def line(self) -> bytes:
        """What the program reads."""
        seconds = f"{max(0.1, self.seconds):.1f}".removesuffix(".0")  # not every `sleep` takes parts of one
        return f"{self.folder} {self.token} {self.how} {seconds} {self.name}\n".encode()


@dataclass(frozen=True)
class Taken:
    """What came out.

    Attributes:
        code: Exit code of the script.
        killed: How many of its processes the kernel has ended for lack of memory, as far as it can be seen there.
        seconds: How long it ran.
        late: Whether it was ended as its time was over.
        printed: What it wrote to standard output.
        said: All that it printed.
    """

    code: int
    killed: int
    seconds: float
    late: bool
    printed: bytes
    said: bytes


def script(own: str) -> str:
    """The text of a service's script; `own` is its part for what is not one of our calls."""
    return (
        "#!/bin/sh\n"
        "# Made by Volvox. A call of its dispatcher is an archive; everything else is the function's own script's.\n"
        f'if [ -n "$INPUT_FILE_PATH" ] && [ "$(head -c {len(MARK)} "$INPUT_FILE_PATH" 2>/dev/null)" = {MARK} ]; then'
        f"{_PROGRAM}fi\n{own}"
    )


def own_part(text: str, command: Sequence[str]) -> str:
    """How the function's own script or command is run as OSCAR would, by its own interpreter line."""
    if not text:
        words = " ".join(shlex.quote(word) for word in command)
        return f"exec {words}\n" if words else ""
    text = text.lstrip("\ufeff").replace("\r\n", "\n")
    end = f"VOLVOX-{digest_of(['script', text])[:16]}"
    file = "/tmp/volvox-script-$$"  # noqa: S108 - inside of it
    started = command_of(Work("", "", script=text), Paths("", "", file, "", ""))
    words = " ".join(word if word == file else shlex.quote(word) for word in started)
    return f"cat > {file} << '{end}'\n{text}{'' if text.endswith(chr(10)) else chr(10)}{end}\nexec {words}\n"


def of_model(title: str, function: Function) -> str:
    """The script of a model's service: about a file it asks the model, without one it is its server."""
    words = ["--name", title, "--listen-ip", "0.0.0.0", "--listen-port", str(PORT)]  # noqa: S104 - in a container
    words += asking.server_arguments(function)
    return (
        "#!/bin/sh\n"
        "# Made by Volvox. Given a file, it asks the model; else this is the command of the exposed instances.\n"
        'if [ -n "$INPUT_FILE_PATH" ]; then\n'
        '  exec deepaas-predict -i "$INPUT_FILE_PATH" -o "$TMP_OUTPUT_DIR"\n'
        "fi\n"
        f"exec volvox serve {' '.join(map(shlex.quote, words))}\n"
    )


def archive(work: Work, given: Given) -> tuple[int, Iterator[bytes]]:
    """A call as bytes, read as they are asked for, and how many these are."""
    folder = given.folder
    paths = Paths(f"{folder}/input", f"{folder}/output", f"{folder}/script", f"{folder}/event.json", "/tmp")  # noqa: S108
    size, pieces = wrapping.archive(work, "", {"RESOURCE_ID": None}, paths)
    first = _entry(MARK, given.line)

    def both() -> Iterator[bytes]:
        yield first
        yield from pieces

    return len(first) + size, both()


def nothing(given: Given) -> bytes:
    """The archive of a call that is not to be answered any more."""
    return _entry(MARK, given.line) + bytes(2 * _BLOCK)


def decoded(body: bytes, target: Path) -> bool:
    """Write what `/run` answered into a file; whether that can be an archive at all."""
    try:
        target.write_bytes(base64.b64decode(body, validate=False))
    except (binascii.Error, ValueError):
        return False
    return tarfile.is_tarfile(target)


def unpack(source: Path, output: Path) -> Taken:
    """Take out what the script did; plain files come into `output`.

    Raises:
        tarfile.TarError: If the archive is no whole one.
        OSError: If it cannot be written.
    """
    code, killed, printed = wrapping.unpack(source, output)
    said, took, late = b"", b"", False
    with tarfile.open(source, errorlevel=1) as archive:
        for entry in archive:
            if entry.name not in _OWN:
                break
            late = late or entry.name == "late"
            if entry.name in ("said", "took") and (stream := archive.extractfile(entry)) is not None:
                said, took = (stream.read(), took) if entry.name == "said" else (said, stream.read())
    began, _, over = took.decode().strip().partition(" ")
    with contextlib.suppress(ValueError):
        return Taken(code, killed, round(float(over) - float(began), 3), late, printed, said)
    return Taken(code, killed, 0.0, late, printed, said)


def printed_so_far(log: bytes, token: str) -> bytes | None:
    """What of a job's log the script has printed; None if it is no log of this call, or it has not begun."""
    begin, end = f"{MARK} {token}\n".encode(), f"{OVER} {token}".encode()
    at = log.find(begin)
    if at < 0:
        return None
    found = log[at + len(begin) :]
    over = found.find(end)
    return found[:over] if over >= 0 else found


def token_of(log: bytes) -> str:
    """The token of the call that a job's log is of; empty if it says none."""
    at = log.find(f"{MARK} ".encode())
    if at < 0:
        return ""
    line, newline, _ = log[at + len(MARK) + 1 :].partition(b"\n")
    return line.decode(errors="replace").strip() if newline else ""


def _entry(name: str, content: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    padded = -(-len(content) // _BLOCK) * _BLOCK
    with io.BytesIO() as stream:
        stream.write(entry.tobuf(tarfile.GNU_FORMAT))
        stream.write(content.ljust(padded, b"\0"))
        return stream.getvalue()

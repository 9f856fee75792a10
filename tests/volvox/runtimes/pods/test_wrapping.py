"""The shell's program around a script, run by the shell of this machine."""

from __future__ import annotations

import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from volvox.runner import outputs
from volvox.runner.work import Paths, Work
from volvox.runtimes.pods import wrapping


class Pod:
    """A folder that stands for the pod's, and the program in it."""

    def __init__(self, folder: Path) -> None:
        self.inside, self.outside = folder / "inside", folder / "outside"
        self.inside.mkdir()
        self.outside.mkdir()
        self.process = subprocess.Popen(
            wrapping.program(str(self.inside)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def bring(self, script: str, text: bytes = b"content", given: dict[str, str] | None = None, **more) -> Work:
        """Give it a script and a file, as the dispatcher does, with a pipe that stays open."""
        (self.outside / "file").write_bytes(text)
        paths = Paths(*(f"{self.inside}/{name}" for name in ("input", "output", "script", "event.json", "tmp")))
        told = {"input": str(self.outside / "file"), "relative": "u/a b.txt", "event": "{}", "job": "j", **more}
        output = str(self.outside / "output")
        work = Work(folder=str(self.outside), output=output, script=script, **told)
        size, pieces = wrapping.archive(work, "THE-END", given or {}, paths)
        whole = b"".join(pieces)
        assert len(whole) == size
        with subprocess.Popen(wrapping.bringing(size, str(self.inside)), stdin=subprocess.PIPE) as bringing:
            assert bringing.stdin is not None
            bringing.stdin.write(whole)
            bringing.stdin.flush()
            assert bringing.wait(10) == 0
        return work

    def fetch(self) -> tuple[int, int, bytes]:
        """Wait for its end and take what it wrote into `outside/output`."""
        target = self.outside / "taken.tar"
        with target.open("wb") as stream:
            subprocess.run(wrapping.fetching(str(self.inside)), stdout=stream, timeout=20, check=False)
        return wrapping.unpack(target, self.outside / "output")

    def end(self) -> tuple[str, str]:
        """What the container printed, once it has ended."""
        subprocess.run(wrapping.leaving(str(self.inside)), check=True)
        out, err = self.process.communicate(timeout=10)
        return out.decode(), err.decode()


@pytest.fixture
def pod(tmp_path: Path):
    made = Pod(tmp_path)
    yield made
    if made.process.poll() is None:
        os.killpg(made.process.pid, 9)
        made.process.wait()


def test_a_script_gets_its_file_event_and_variables_and_its_code_outputs_and_words_are_told(pod: Pod) -> None:
    script = (
        'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/copy"; cat > "$TMP_OUTPUT_DIR/event"; basename "$INPUT_FILE_PATH"\n'
        'echo wrong >&2; mkdir "$TMP_OUTPUT_DIR/sub"; printf %s "$QUOTED" > "$TMP_OUTPUT_DIR/sub/quoted"; exit 7\n'
    )
    quoted = 'it\'s "$HOME" `id` ü\nand more'
    pod.bring(script, event='{"a": 1}', environment={"QUOTED": quoted, "WITH.DOT": "x"})
    code, killed, printed = pod.fetch()
    assert (code, killed, printed) == (7, 0, b"a b.txt\n")
    found = {one.relative: one.path.read_text() for one in outputs.collect(pod.outside / "output")[0]}
    assert found == {"copy": "content", "event": '{"a": 1}', "sub/quoted": quoted}
    out, err = pod.end()
    assert out == "a b.txt\nTHE-END\n" and err == "wrong\nTHE-END\n" and pod.process.returncode == 7


def test_a_large_file_with_a_long_name_comes_as_it_is(pod: Pod) -> None:
    content = os.urandom(3 << 20) + b"odd"
    name = "ü" * 100 + ".bin"
    pod.bring('cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"', content, relative=name)
    assert pod.fetch()[0] == 0
    assert (pod.outside / "output" / name).read_bytes() == content


def test_what_it_left_running_does_not_hold_its_end_up(pod: Pod) -> None:
    pod.bring("sleep 100 & echo left behind")
    began = time.monotonic()
    assert pod.fetch() == (0, 0, b"left behind\n")
    assert time.monotonic() - began < 10


def test_an_interpreter_that_is_not_there_is_127_and_named(pod: Pod) -> None:
    pod.bring("#!/no/such/interpreter\n")
    assert pod.fetch()[0] == 127
    assert "/no/such/interpreter" in pod.end()[1]


def test_told_to_end_it_has_the_script_end_politely(pod: Pod) -> None:
    pod.bring('trap "echo ending; exit 3" TERM; echo begun; while :; do sleep 0.05; done')
    assert pod.process.stdout is not None and pod.process.stdout.readline() == b"begun\n"
    pod.process.terminate()
    assert pod.process.wait(10) == 143
    assert pod.process.stdout.readline() == b"ending\n"


def test_links_pipes_and_wiles_of_an_archive_lead_nowhere(tmp_path: Path) -> None:
    source, output = tmp_path / "a.tar", tmp_path / "output"
    outside = tmp_path / "outside"
    outside.mkdir()
    output.mkdir()

    def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> None:
        made = tarfile.TarInfo(name)
        made.type, made.linkname, made.size = kind, link, len(content)
        import io

        archive.addfile(made, io.BytesIO(content))

    with tarfile.open(source, "w") as archive:
        entry("output/link", tarfile.SYMTYPE, str(outside))
        entry("output/link/file", content=b"through a link")
        entry("output/link/pipe", tarfile.FIFOTYPE)
        entry("output/../../escaped", content=b"up")
        entry("/output/absolute", content=b"x")
        entry("output/pipe", tarfile.FIFOTYPE)
        entry("output/twice", content=b"1")
        entry("output/second", tarfile.LNKTYPE, "output/twice")
        entry("output/stolen", tarfile.LNKTYPE, "output/../../secret")
        entry("ended", content=b"0 0\n")
    (tmp_path / "secret").write_text("secret")
    assert wrapping.unpack(source, output) == (0, 0, b"")
    found, refused = outputs.collect(output)
    assert {one.relative: one.path.read_bytes() for one in found} == {
        "link/file": b"through a link", "twice": b"1", "second": b"1",
    }  # fmt: skip
    assert refused == ["link/pipe is no file", "pipe is no file"] or "pipe is no file" in refused
    assert list(outside.iterdir()) == [] and not (tmp_path / "escaped").exists()


def test_an_archive_that_broke_off_is_no_answer(tmp_path: Path) -> None:
    for content in (b"", b"\0" * 1024, b"x" * 700):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(tarfile.TarError):
            wrapping.unpack(tmp_path / "a.tar", tmp_path / "output")

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from volvox.cancelling import Cancelled
from volvox.errors import Unavailable, VolvoxError
from volvox.packaging.engine import Engine


def test_that_there_is_no_engine_is_found_in_an_instant(tmp_path: Path) -> None:
    began = time.monotonic()
    reason = Engine(f"unix://{tmp_path}/absent.sock").why_not()
    assert time.monotonic() - began < 2
    assert "does not answer (No such file or directory)" in reason


def test_a_socket_that_never_answers_counts_as_no_engine_after_two_seconds(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "mute.sock"))
        listening.listen()
        began = time.monotonic()
        assert "does not answer" in Engine(f"unix://{tmp_path}/mute.sock").why_not()
        assert time.monotonic() - began < 15


def test_whether_there_is_an_engine_is_asked_without_importing_its_sdk(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom volvox.packaging.engine import Engine\n"
        f"Engine('unix://{tmp_path}/absent.sock').why_not()\nassert 'docker' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_engine_that_went_away_is_a_passing_failure(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        Engine(f"unix://{tmp_path}/absent.sock").find("0" * 64)


@pytest.mark.docker
class TestWithAnEngine:
    @pytest.fixture
    def engine(self, engine_environment: dict[str, str]) -> Engine:
        return Engine("unix:///var/run/docker.sock")

    @staticmethod
    def _tar(folder: Path, dockerfile: str) -> Path:
        import tarfile

        (folder / "Dockerfile").write_text(dockerfile)
        with tarfile.open(folder / "context.tar", "w") as archive:
            archive.add(folder / "Dockerfile", "Dockerfile")
        return folder / "context.tar"

    def test_it_answers(self, engine: Engine) -> None:
        assert engine.why_not() == ""

    def test_a_step_that_fails_is_named_with_what_it_said(self, engine: Engine, tmp_path: Path, base: str) -> None:
        tar = self._tar(tmp_path, f"FROM {base}\nRUN echo out of luck; exit 3\n")
        with pytest.raises(VolvoxError, match=r"the step `RUN echo out of luck; exit 3` failed.*it said: out of luck"):
            engine.build(tar, "1" * 64, threading.Event())
        assert engine.find("1" * 64) == ""

    def test_a_base_image_that_cannot_be_fetched_is_a_passing_failure(self, engine: Engine, tmp_path: Path) -> None:
        tar = self._tar(tmp_path, "FROM 127.0.0.1:1/absent:1\n")
        with pytest.raises(Unavailable, match="set ENGINE_BASE_IMAGE"):
            engine.build(tar, "2" * 64, threading.Event())

    def test_a_build_that_cannot_reach_the_package_index_is_a_passing_failure(
        self, engine: Engine, tmp_path: Path, base: str
    ) -> None:
        said = "WARNING: Retrying after connection broken by NewConnectionError"
        tar = self._tar(tmp_path, f"FROM {base}\nRUN echo {said}; echo ERROR: No matching distribution; exit 1\n")
        with pytest.raises(Unavailable, match="the package index cannot be reached"):
            engine.build(tar, "6" * 64, threading.Event())

    def test_a_cancelled_build_ends_and_leaves_no_image(self, engine: Engine, tmp_path: Path, base: str) -> None:
        cancelled = threading.Event()
        tar = self._tar(tmp_path, f"FROM {base}\nRUN echo begun; sleep 2; echo on; sleep 60\n")
        threading.Timer(1.0, cancelled.set).start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            engine.build(tar, "7" * 64, cancelled)
        assert time.monotonic() - began < 30
        assert engine.find("7" * 64) == ""

    def test_a_built_image_is_found_by_its_context_and_gone_when_removed(
        self, engine: Engine, tmp_path: Path, base: str
    ) -> None:
        digest = "3" * 64
        image = engine.build(self._tar(tmp_path, f"FROM {base}\nLABEL a=b\n"), digest, threading.Event())
        assert engine.has(image)
        assert engine.find(digest) == image
        engine.remove(image)
        assert not engine.has(image)

    def test_what_stands_on_an_image_and_inherits_its_label_is_not_taken_for_it(
        self, engine: Engine, tmp_path: Path, base: str
    ) -> None:
        image = engine.build(self._tar(tmp_path, f"FROM {base}\nENV A=1\n"), "8" * 64, threading.Event())
        import docker

        child, _ = docker.from_env().images.build(fileobj=io.BytesIO(f"FROM {image}\nENV B=1\n".encode()))
        try:
            assert engine.find("8" * 64) == image
        finally:
            engine.remove(str(child.id))
            engine.remove(image)

    def test_a_container_has_no_rights_and_is_removed(self, engine: Engine, tmp_path: Path, base: str) -> None:
        tar = self._tar(tmp_path, f'FROM {base}\nUSER 1000\nCMD ["sleep", "600"]\n')
        image = engine.build(tar, "4" * 64, threading.Event())
        try:
            with engine.running(image, 5000) as (container, _):
                assert (
                    engine.execute(container, ["sh", "-c", "touch /home/app/x || echo read-only"])[1] == "read-only\n"
                )
                assert "CapEff:\t0000000000000000" in engine.execute(container, ["cat", "/proc/self/status"])[1]
            with pytest.raises(Exception, match="No such container"):
                engine.state(container)
        finally:
            engine.remove(image)

    def test_the_container_of_a_killed_process_is_removed(self, engine: Engine, tmp_path: Path, base: str) -> None:
        tar = self._tar(tmp_path, f'FROM {base}\nCMD ["sleep", "600"]\n')
        image = engine.build(tar, "5" * 64, threading.Event())
        code = (
            "import sys, time\nfrom volvox.packaging.engine import Engine\n"
            f"with Engine({engine.host!r}).running({image!r}, 5000) as (container, _):\n"
            "    print(container, flush=True)\n    time.sleep(600)\n"
        )
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            container = child.stdout.readline().strip()
            assert engine.state(container)["Running"]
            child.kill()
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and _there(engine, container):
                time.sleep(0.2)
            assert not _there(engine, container)
        finally:
            child.kill()
            child.wait()
            engine.remove(image)


@pytest.fixture
def base(engine_environment: dict[str, str]) -> str:
    return engine_environment["ENGINE_BASE_IMAGE"]


def _there(engine: Engine, container: str) -> bool:
    import docker.errors

    try:
        engine.state(container)
    except docker.errors.NotFound:
        return False
    return True

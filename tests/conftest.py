"""What tests share: a home of their own, a model module of their own, the engines."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Trainings here are so small that a second thread only waits for the first, at the cost of a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")


_RUNTIMES = ("lambda-batch", "lambda", "batch", "docker", "ecs", "kubernetes", "local", "oscar")


# A shell that starts this in the background has it ignore Ctrl-C, and so would every command that is tested.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _environment_of_before() -> Iterator[None]:
    """Commands tell their process where servers are, which no other test is to find there."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files go to a worker, so that shared servers stay shared; the suite of runtimes goes runtime by runtime."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileAndRuntime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            runtime = next((one for one in _RUNTIMES if f"[{one}" in test), "")
            return f"{file} {runtime}" if file.startswith("tests/volvox/runtimes/") else file

    return ByFileAndRuntime(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _docker_in_turns(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests that look at all containers of the one engine use it one at a time, in whatever process.

    Those of `apart` look at what carries their own names only.
    """
    if not request.node.get_closest_marker("docker") or request.node.get_closest_marker("apart"):
        yield
        return
    with Path(tempfile.gettempdir(), "volvox-tests-docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A VOLVOX_HOME that nothing else uses."""
    from volvox.settings import Home

    monkeypatch.setenv("VOLVOX_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VOLVOX_STORE", raising=False)
    return Home.current().ensure()


@pytest.fixture
def install_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a model module for this test: `install_module("toy", "def predict(**kw): ...")` -> its folder."""

    def install(name: str, code: str, metadata: str = "") -> Path:
        site = tmp_path / "site"
        package = site / f"{name}_package"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "api.py").write_text(code)
        if metadata:
            (package / "metadata.yaml").write_text(metadata)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[deepaas.v2.model]\n{name} = {name}_package.api\n")
        recorded = [path for folder in (package, info) for path in folder.iterdir()]
        (info / "RECORD").write_text("".join(f"{path.relative_to(site)},,\n" for path in recorded))
        monkeypatch.syspath_prepend(str(site))
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        return package

    return install


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real labelled data that VOLVOX_TEST_DATA names."""
    folder = os.environ.get("VOLVOX_TEST_DATA")
    if not folder:
        pytest.skip("VOLVOX_TEST_DATA is not set: no real labelled data here")
    assert Path(folder).is_dir(), f"VOLVOX_TEST_DATA names {folder}, which is no folder"
    return Path(folder)


@pytest.fixture
def as_user(tmp_path: Path):
    """Run Python code as an ordinary user (root may do everything, which hides permission errors)."""

    def run(code: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        for folder in (tmp_path, *tmp_path.parents):  # pytest keeps its folders to their owner
            if folder.stat().st_mode & 0o055 != 0o055:
                folder.chmod(folder.stat().st_mode | 0o055)
        command = [sys.executable, "-c", code, *arguments]
        if os.getuid() == 0:
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **(env or {})}
        )

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB (a tmpfs); skips where this user may not mount one."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def training_image(tmp_path_factory: pytest.TempPathFactory):
    """The training image of `image_classifier` on the Docker engine of VOLVOX_ENGINES, built once for all tests."""
    from tests.training_image import built

    with built(tmp_path_factory.mktemp("training-image")) as image:
        yield image


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow database for the session: to create it takes seconds. Tests keep apart by the names they use."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def tracking(tracking_uri: str, monkeypatch: pytest.MonkeyPatch):
    """An MLflow that needs no server; what it sets in the environment is taken back."""
    from blocks.tracking import Tracking

    made = Tracking(uri=tracking_uri)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made

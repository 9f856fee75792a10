"""One installation for each kind of pool: a Prefect server, a worker of that pool, a store both sides reach."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.pools import containers
from tests.engines import engine_environment
from volvox.settings import Home
from volvox.stack import stack

HERE = Path(__file__).parent
KINDS = [
    pytest.param("process", marks=pytest.mark.cycle),
    pytest.param("docker", marks=[pytest.mark.cycle, pytest.mark.docker]),
    pytest.param("kubernetes", marks=[pytest.mark.cycle, pytest.mark.k8s, pytest.mark.soak]),
    pytest.param("ecs", marks=[pytest.mark.cycle, pytest.mark.aws, pytest.mark.docker, pytest.mark.soak]),
]
ENGINES = {"process": [], "docker": ["docker", "aws"], "kubernetes": ["docker", "k8s", "aws"], "ecs": ["docker", "aws"]}
DEPLOYMENTS = """
deployments:
  - name: local
    placeable: true
    entrypoint: tests_of_pools.standin_stages.standin
    description: A stand-in.
    tags: [volvox]
    work_pool: {name: local}
"""
LOCAL = "{name: local, type: process, concurrency_limit: 4, gpus_total: 2}"
_UNSET = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_WEB_URL", "VOLVOX_LOCAL_SERVICES", "VOLVOX_STORE")


@dataclass(frozen=True)
class Pool:
    """A pool whose worker runs.

    Attributes:
        kind: Its type.
        name: Its name.
        home: The installation's home.
    """

    kind: str
    name: str
    home: Home

    def submission(self, what: str, number: int = 0, **more: Any) -> Any:
        """The stand-in stage for this pool."""
        from tests_of_pools.standin_stages import standin  # pyright: ignore[reportMissingImports]

        from blocks.store import ObjectStore
        from flows.elsewhere import Submission

        more.setdefault("job_variables", {})
        return Submission(standin, self.name, {"what": what, "number": number}, ObjectStore.local().open(), **more)

    def memory(self, megabytes: int) -> dict[str, Any]:
        """Job variables that give the run so much memory."""
        from volvox.pools.files import read_pools
        from volvox.pools.needs import Needs
        from volvox.pools.requests import job_variables

        return job_variables(read_pools(self.home)[self.name], Needs(memory_mb=megabytes))

    def jobs_of(self, run_id: str) -> list[str]:
        """What still runs of a flow run."""
        if self.kind == "process":
            return [str(pid) for pid, run in processes_of_runs().items() if run == run_id]
        return [job.name for job in asyncio.run(containers.jobs(self)) if job.run_id == run_id]

    def vanish(self, run_id: str) -> None:
        """Take away what runs a flow run, as a machine does that loses its power."""
        if self.kind == "process":
            self.kill(run_id)
        else:
            asyncio.run(containers.remove(self, run_id))

    def kill(self, run_id: str) -> None:
        """Kill a flow run's processes, wherever they are, as a machine does that has no memory left."""
        for pid, run in processes_of_runs().items():
            if run == run_id:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def run(self, what: str, number: int = 0, **more: Any) -> Any:
        """Run the stand-in stage there and return its record."""
        from flows.elsewhere import run_elsewhere

        return asyncio.run(asyncio.wait_for(run_elsewhere(self.submission(what, number, **more)), 120))


@pytest.fixture(scope="package", params=KINDS)
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    kind: str = request.param
    root = tmp_path_factory.mktemp(f"pool-{kind}")
    code = root / "code" / "tests_of_pools"
    code.mkdir(parents=True)
    (code / "__init__.py").write_text("")
    shutil.copyfile(HERE / "standin_stages.py", code / "standin_stages.py")
    home = Home(root / "home")
    name = "local" if kind == "process" else f"{kind}-{uuid.uuid4().hex[:6]}"
    with contextlib.ExitStack() as settings, pytest.MonkeyPatch.context() as patch:
        for variable in _UNSET:
            patch.delenv(variable, raising=False)
        for variable, value in engine_environment(ENGINES[kind]).items():
            patch.setenv(variable, value)
        patch.setenv("VOLVOX_HOME", str(home.root))
        patch.setenv("VOLVOX_PREFECT_PORT", "0")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")  # nothing here needs the server
        paths = filter(None, [str(root / "code"), os.environ.get("PYTHONPATH")])
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.syspath_prepend(str(root / "code"))
        for loaded in [module for module in sys.modules if module.startswith("tests_of_pools")]:
            patch.delitem(sys.modules, loaded)
        folder = root / "deployments"
        (folder / "pools").mkdir(parents=True)
        (folder / "pools" / "local.yaml").write_text(LOCAL)
        (home.folder("pools") / "local.yaml").write_text(LOCAL)  # which the worker reads
        (folder / "prefect.yaml").write_text(textwrap.dedent(DEPLOYMENTS))
        try:
            stack.ensure(home, ["prefect"])
            stack.wait_ready(home, "prefect")
            for variable, value in stack.environment(home).items():
                patch.setenv(variable, value)
            from prefect.settings import PREFECT_API_URL, temporary_settings

            # Prefect reads the environment once in a process; other tests of this one may have made it do so.
            settings.enter_context(temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}))
            if kind != "process":
                containers.prepare(kind, name, home, root / "code", patch)
            stack.ensure(home, ["worker"])
            stack.wait_ready(home, "worker")
            _apply(folder)
            yield Pool(kind, name, home)
        finally:
            stack.stop(home)


def processes_of_runs() -> dict[int, str]:
    """Every process of a flow run on this machine, in containers too: pid -> the run's id."""
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                if variable.startswith(b"PREFECT__FLOW_RUN_ID="):
                    found[int(entry.name)] = variable.partition(b"=")[2].decode()
    return found


def _apply(folder: Path) -> None:
    from deployments.apply import apply

    asyncio.run(apply(os.environ["PREFECT_API_URL"], folder))

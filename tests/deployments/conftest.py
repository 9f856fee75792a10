from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from volvox.settings import Home
from volvox.stack import stack

FLOWS = """
import asyncio, os, pathlib
from prefect import flow
from volvox.records import Rejected

@flow(name="standin")
async def standin(source: str, *, rejected: Rejected | None = None) -> str:
    home = pathlib.Path(os.environ["VOLVOX_HOME"])
    reason = rejected.reason if rejected else ""
    told = [os.environ["PREFECT_API_URL"], os.environ["MLFLOW_TRACKING_URI"], reason]
    (home / f"ran-{source}").write_text(" ".join(told))
    return source

@flow(name="endless")
async def endless() -> None:
    (pathlib.Path(os.environ["VOLVOX_HOME"]) / "endless").write_text(str(os.getpid()))
    await asyncio.sleep(600)
"""
DEPLOYMENTS = """
deployments:
  - name: standin
    entrypoint: standin_flows.standin
    description: A stand-in.
    tags: [volvox]
    work_pool: {name: local}
    schedules:
      - {slug: retraining, cron: "0 3 * * 0", timezone: UTC, active: false}
  - name: endless
    entrypoint: standin_flows.endless
    work_pool: {name: local}
"""
POOL = "{name: local, type: process, description: Here., concurrency_limit: 2}"
_UNSET = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_WEB_URL", "VOLVOX_LOCAL_SERVICES")


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose Prefect server runs, on a port that the system chose."""
    root = tmp_path_factory.mktemp("stack")
    (root / "code").mkdir()
    (root / "code" / "standin_flows.py").write_text(FLOWS)
    home = Home(root / "home")
    with pytest.MonkeyPatch.context() as patch:
        for name in _UNSET:
            patch.delenv(name, raising=False)
        patch.setenv("VOLVOX_HOME", str(home.root))
        patch.setenv("VOLVOX_PREFECT_PORT", "0")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")  # nothing here needs the server
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(root / "code"), os.environ.get("PYTHONPATH")])))
        patch.syspath_prepend(str(root / "code"))
        try:
            stack.ensure(home, ["prefect"])
            stack.wait_ready(home, "prefect")
            for name, value in stack.environment(home).items():
                patch.setenv(name, value)
            yield home
        finally:
            stack.stop(home)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of deployments with two small flows."""
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "local.yaml").write_text(POOL)
    (tmp_path / "prefect.yaml").write_text(textwrap.dedent(DEPLOYMENTS))
    return tmp_path

"""Servers to test with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volvox.serving.job_server import JobServer
from tests.volvox.serving.running_server import RunningServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of this test's own, with nothing deployed."""
    yield from _running(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that the tests of one file share: they only ask it."""
    for running in _running(tmp_path_factory.mktemp("shared")):
        for name, module in (("tiny", "tiny"), ("plain", "tiny-plain"), ("strict", "tiny-strict")):
            answer = running.deploy("1", name=name, module=module)
            assert answer.status_code == 201, answer.text
        yield running


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    """A server that the tests of jobs share: one that kills it starts it again."""
    running = JobServer(tmp_path_factory.mktemp("jobs"))
    running.start()
    try:
        running.serve("tiny-plain")
        running.serve()
        yield running
    finally:
        if running.process.poll() is None:
            running.end()


def _running(folder: Path) -> Iterator[RunningServer]:
    running = RunningServer(folder)
    running.start()
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end()

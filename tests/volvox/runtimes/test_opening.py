"""Runtimes by name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.volvox.runtimes.tiny import TinyModels
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes import Runtime
from volvox.runtimes.opening import HERE, open_runtime, runtime_of


def test_a_model_runs_here_and_an_image_where_there_is_an_engine() -> None:
    assert runtime_of(Function(name="f", model="m")) == "local"
    assert runtime_of(Function(name="f", image="i", script="echo")) == "docker"
    assert runtime_of(Function(name="f", image="i", script="echo", settings={"as_process": True})) == "local"
    assert runtime_of(Function(name="f", model="m", runtime="docker")) == "docker"
    assert runtime_of(Function(name="f", flow="cycle")) == "flow"


def test_every_runtime_is_opened_by_its_name(tmp_path: Path) -> None:
    async def test() -> None:
        for name in HERE:
            runtime = open_runtime(name, tmp_path, TinyModels(tmp_path))
            fetches = name not in ("local", "docker")
            assert isinstance(runtime, Runtime) and (runtime.name, runtime.fetches) == (name, fetches)
            await runtime.close()
        with pytest.raises(InvalidInput, match="no runtime 'moon'"):
            open_runtime("moon", tmp_path, TinyModels(tmp_path))

    asyncio.run(test())

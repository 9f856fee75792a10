"""Runtimes by name."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.volvox.runtimes.tiny import TinyModels
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes import Runtime
from volvox.runtimes.opening import HERE, open_runtime, runtime_of, set_up


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
            fetches = name not in ("local", "docker", "kubernetes")
            assert isinstance(runtime, Runtime) and (runtime.name, runtime.fetches) == (name, fetches)
            await runtime.close()
        with pytest.raises(InvalidInput, match="no runtime 'moon'"):
            open_runtime("moon", tmp_path, TinyModels(tmp_path))

    asyncio.run(test())


def test_auto_takes_a_cluster_and_aws_only_where_they_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"local", "docker", "flow"}
    for name in [name for name in os.environ if name.startswith(("AWS_", "KUBE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert set(set_up()) == here
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    assert set(set_up()) == here | {"kubernetes"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert set(set_up()) == set(HERE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")  # the key is that store's
    assert set(set_up()) == here | {"kubernetes"}
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    assert set(set_up()) == here | {"kubernetes"}
    (tmp_path / "config").write_text("[profile lab]\nsso_session = lab\n")
    assert set(set_up()) == set(HERE)


def test_one_that_buckets_call_goes_to_lambda_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from volvox.runtimes import opening

    called = Function(name="f", image="i", script="echo", trigger="direct")
    monkeypatch.setattr(opening, "_knows_amazon", lambda: True)
    assert runtime_of(called) == "lambda"
    monkeypatch.setattr(opening, "_knows_amazon", lambda: False)
    with pytest.raises(InvalidInput, match="lambda would fit and is not set up here"):
        runtime_of(called)

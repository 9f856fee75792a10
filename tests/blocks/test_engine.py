from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from blocks.engine import ContainerEngine


def test_this_machine_s_engine_reads_what_an_operator_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_BASE_IMAGE", "engines/python:3.11")
    monkeypatch.setenv("VOLVOX_REGISTRY", "registry.example.org/team")
    engine = ContainerEngine.local()
    assert (engine.base, engine.registry) == ("engines/python:3.11", "registry.example.org/team")


def test_nothing_is_pushed_and_the_base_has_this_python_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENGINE_BASE_IMAGE", "ENGINE_GPU_BASE_IMAGE", "VOLVOX_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    engine = ContainerEngine.local()
    assert engine.registry == ""
    assert engine.base == f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"


def test_gpu_images_start_from_their_own_base_where_one_is_set() -> None:
    assert ContainerEngine(base_image="a", gpu_base_image="b", gpu=True).base == "b"
    assert ContainerEngine(base_image="a", gpu=True).base == "a"
    assert ContainerEngine(base_image="a", gpu_base_image="b").base == "a"


@pytest.mark.parametrize("registry", ["https://registry.example.org", "user:secret@host/x", "host/UPPER", "host/"])
def test_a_registry_that_is_no_host_and_path_is_refused(registry: str) -> None:
    with pytest.raises(ValidationError):
        ContainerEngine(registry=registry)


def test_the_address_of_the_engine_is_the_one_given() -> None:
    assert ContainerEngine(host="unix:///somewhere.sock").open().host == "unix:///somewhere.sock"

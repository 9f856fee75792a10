from __future__ import annotations

import pytest

from volvox.catalogue.metadata import faults
from volvox.errors import InvalidInput
from volvox.modules import discovery
from volvox.pools.needs import Needs, needs_of

METADATA = """
metadata_version: {version}
resources:
  training: {{cpu: 2, gpu: 1, memory_MB: 4000, gpu_memory_MB: 8000, gpu_compute_capability: 7.5, storage_MB: 100}}
  inference: {{cpu: 1}}
"""


def module(install_module, metadata: str) -> discovery.Module:
    install_module("toy", "", metadata)
    return discovery.find("toy")


@pytest.mark.parametrize("version", ["2.1.0", "2.2.0", "2.3.0"])
def test_the_needs_are_those_of_the_metadata(install_module, version: str) -> None:
    toy = module(install_module, METADATA.format(version=version))
    assert needs_of(toy, "training") == Needs(
        cpu=2, gpus=1, memory_mb=4000, gpu_memory_mb=8000, gpu_compute_capability=7.5, storage_mb=100
    )
    assert needs_of(toy, "inference") == Needs(cpu=1)


@pytest.mark.parametrize("metadata", ["", "title: x", "resources: {}", "resources: {inference: {cpu: 3}}"])
def test_a_module_that_states_nothing_needs_nothing(install_module, metadata: str) -> None:
    assert needs_of(module(install_module, metadata), "training") == Needs()


def test_what_a_user_says_goes_first_and_none_says_nothing(install_module) -> None:
    toy = module(install_module, METADATA.format(version="2.3.0"))
    asked = needs_of(toy, "training", {"gpus": 0, "memory_mb": 9000, "cpu": None})
    assert (asked.gpus, asked.memory_mb, asked.cpu) == (0, 9000, 2)


def test_an_unknown_need_is_told_with_the_nearest(install_module) -> None:
    with pytest.raises(InvalidInput, match="no need 'gpu'; did you mean 'gpus'"):
        needs_of(module(install_module, ""), "training", {"gpu": 1})


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("resources: {training: {cpu: many}}", r"resources\.training .*'toy': cpu is \"many\""),
        ("resources: {training: {memory_MB: -1}}", r"memory_mb is -1; it must be a number from 0"),
        ("resources: {training: [1]}", r"resources\.training .* holds no keys"),
    ],
)
def test_metadata_that_holds_no_amount_is_told(install_module, metadata: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        needs_of(module(install_module, metadata), "training")


def test_the_image_classifier_states_its_needs_and_its_metadata_is_valid() -> None:
    ours = discovery.find("image_classifier")
    assert faults(ours.metadata()) == []
    assert needs_of(ours, "training").memory_mb > needs_of(ours, "inference").memory_mb > 0

"""What Lambda has, and which runtime fits."""

from __future__ import annotations

import pytest

from volvox.functions.definition import Function
from volvox.pricing.placing import _known, _place
from volvox.runtimes.aws.limits import (
    LAMBDA_CPUS,
    LAMBDA_IMAGE_BYTES,
    LAMBDA_MEMORY_MB,
    LAMBDA_PAYLOAD_BYTES,
    LAMBDA_SECONDS,
    LAMBDA_STORAGE_MB,
    beyond_lambda,
    mode_for,
    size_of,
)
from volvox.settings import Home


def function(**more) -> Function:
    return Function(**{"name": "f", "model": "m", **more})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"resources": {"gpus": 1}}, "GPU"),
        ({"resources": {"memory_mb": 10_241}}, "10,241 MB of memory"),
        ({"resources": {"cpu": 7}}, "7 processors"),
        ({"resources": {"storage_mb": 20_000}}, "20,000 MB of disk"),
        ({"timeout_seconds": 901}, "901 s"),
        ({"settings": {"batch": {"multi_node_parallel": {"enabled": True}}}}, "several machines"),
    ],
)
def test_what_is_beyond_lambda_is_said_and_batch_fits(more: dict, said: str) -> None:
    (reason,) = beyond_lambda(function(**more))
    assert said in reason
    mode, why = mode_for(function(**more))
    assert mode == "batch" and said in why


def test_an_image_may_be_too_large() -> None:
    assert "10.5 GB" in next(beyond_lambda(function(), int(10.5 * (1 << 30))))
    assert list(beyond_lambda(function(), 10 << 30)) == []


def test_what_fits_goes_to_lambda_and_what_comes_close_to_both() -> None:
    assert mode_for(function())[0] == "lambda"
    assert mode_for(function(timeout_seconds=899))[0] == "lambda-batch"
    most = {"memory_mb": 10_240, "cpu": LAMBDA_CPUS}
    assert list(beyond_lambda(function(timeout_seconds=900, resources=most))) == []


def test_what_places_a_function_knows_the_same_limits() -> None:
    known = _place("lambda", function(), _known(Home.current())).limits
    assert (known.memory_mb, known.cpu, known.gpus) == (LAMBDA_MEMORY_MB[1], LAMBDA_CPUS, 0)
    assert (known.storage_mb, known.timeout_seconds) == (LAMBDA_STORAGE_MB[1], LAMBDA_SECONDS)
    assert (known.image_mb, known.payload_mb) == (LAMBDA_IMAGE_BYTES >> 20, LAMBDA_PAYLOAD_BYTES >> 20)


def test_sizes_are_within_what_lambda_has_and_processors_come_with_memory() -> None:
    assert size_of(function(resources={"memory_mb": 16})).memory_mb == 128
    assert size_of(function(resources={"cpu": 2})).memory_mb == 3538
    assert size_of(function(resources={"memory_mb": 512, "cpu": 0.25})).memory_mb == 512
    told = size_of(function(timeout_seconds=30, resources={"storage_mb": 100}))
    assert (told.seconds, told.storage_mb) == (40, 512)
    assert size_of(function(timeout_seconds=900)).seconds == 900

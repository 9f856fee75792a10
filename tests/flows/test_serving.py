"""The serving and inference stages as flows."""

from __future__ import annotations

import inspect

from flows.inference import inference
from flows.serving import serving


def test_a_stage_and_its_flow_have_one_name() -> None:
    assert (serving.name, inference.name) == ("serving", "inference")


def test_blocks_come_in_as_parameters_that_may_be_left_out() -> None:
    for stage in (serving, inference):
        parameters = inspect.signature(stage.fn).parameters
        assert all(parameters[name].default is None for name in ("store", "server"))
        assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("store", "server"))

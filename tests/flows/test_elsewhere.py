from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows import elsewhere
from flows.elsewhere import Submission, as_json, deployment_name
from flows.training import training
from volvox import results
from volvox.errors import GateRefused, InvalidInput, ModuleFailed, StageFailed, Unavailable, UnknownModule
from volvox.records import Dataset, Job, Verdict
from volvox.store import Store

JOB = Job(service="a", version="1", input="x", input_digest="d", answer_object="o")
DATASET = Dataset(
    name="d", source="s", classes=("a", "b"), counts={"train": (1, 1), "val": (1, 1), "test": (1, 1)}, content="c",
    learning_tree="l", held_out_tree="h", manifest_object="m",
)  # fmt: skip


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Submission]:
    def make(pool: str = "docker", **parameters: Any) -> Submission:
        return Submission(training, pool, {"dataset": DATASET, **parameters}, Store.open(str(tmp_path)), {})

    return make


def test_a_record_comes_back_as_it_went() -> None:
    kept = results.finished(JOB, worked_seconds=1.5, reused=True)
    assert results.record_of(kept, Job, "standin on pool 'p'") == JOB


def test_what_is_no_such_record_says_what_to_do() -> None:
    with pytest.raises(StageFailed, match="volvox images --training"):
        results.record_of({"record": {"service": 3}}, Job, "standin on pool 'p'")
    with pytest.raises(StageFailed):
        results.record_of({}, Job, "standin on pool 'p'")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (InvalidInput("the number is odd"), InvalidInput, "the number is odd"),
        (ModuleFailed("it broke", trace="line 1"), ModuleFailed, "it broke"),
        (UnknownModule("toy", ["other"]), UnknownModule, "toy"),
        (ZeroDivisionError("by zero"), StageFailed, "ZeroDivisionError: by zero"),
        (KeyError(), StageFailed, "KeyError"),
        (SystemExit(3), StageFailed, "SystemExit"),
    ],
)
def test_an_error_comes_back_with_class_and_message(error: BaseException, kind: type, said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        results.record_of(results.failed(error), Job, "standin on pool 'p'")
    assert type(caught.value) is kind
    assert "pool 'p'" in str(caught.value)
    assert getattr(caught.value, "trace", "") == getattr(error, "trace", "")


def test_a_class_that_is_no_error_of_ours_is_never_looked_up() -> None:
    with pytest.raises(StageFailed, match="raised annotations"):
        results.record_of({"error": {"class": "annotations", "message": "x"}}, Job, "here")


def test_a_refusal_keeps_its_numbers() -> None:
    verdict = Verdict(accepted=False, reason="too low", metric="accuracy", value=0.5, threshold=0.9)
    with pytest.raises(GateRefused) as caught:
        results.record_of(results.failed(GateRefused("too low", verdict)), Job, "here")
    assert caught.value.verdict == verdict


def test_the_same_stage_and_parameters_are_one_run_on_whatever_pool(submission: Callable[..., Submission]) -> None:
    assert submission().tag == submission("kubernetes").tag
    assert submission().tag == submission(store=None).tag
    assert submission().tag != submission(arguments={"epochs": 1}).tag


def test_parameters_are_json_and_unsaved_blocks_stay_here() -> None:
    from blocks.store import ObjectStore

    told = as_json({"dataset": DATASET, "store": ObjectStore(address="/secret/place"), "start_from": None, "name": "n"})
    assert set(told) == {"dataset", "name"}
    assert Dataset.model_validate(told["dataset"]) == DATASET


def test_a_deployment_is_named_after_stage_and_pool() -> None:
    assert deployment_name("training", "kubernetes") == "training/kubernetes"


def test_a_server_too_busy_to_answer_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "_BUSY_SECONDS", (0.0, 0.0))
    asked: list[int] = []

    async def late(times: int) -> str:
        asked.append(times)
        if len(asked) <= times:
            raise httpx.ReadTimeout("too late")
        return "answer"

    assert asyncio.run(elsewhere._patiently(lambda: late(2))) == "answer"
    asked.clear()
    with pytest.raises(Unavailable, match="too busy"):
        asyncio.run(elsewhere._patiently(lambda: late(3)))

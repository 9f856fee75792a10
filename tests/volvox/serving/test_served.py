"""Queue, deadline and replacement of one served model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.volvox.serving.modules import write_modules, write_weights
from volvox.errors import ModuleFailed, Unavailable
from volvox.serving.asking import Busy, TooSlow
from volvox.serving.deployed import Deployed
from volvox.serving.limits import Limits
from volvox.serving.served import ServedModel


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a coroutine function with a started model of the given limits."""
    monkeypatch.setenv("PYTHONPATH", str(write_modules(tmp_path / "site")))
    weights = write_weights(tmp_path / "weights", "1")
    image = tmp_path / "a.png"
    image.write_bytes(b"123")

    def run(test: Callable[[ServedModel, Callable[..., Awaitable]], Awaitable[None]], **limits: float) -> None:
        async def with_model() -> None:
            deployed = Deployed(name="tiny", module="tiny", model_version="a" * 64)
            model = ServedModel(deployed, tmp_path, weights, Limits(**limits))
            file = {"path": str(image), "content_type": "image/png", "name": "a.png"}
            await model.start()
            try:
                await test(model, lambda mode: model.predict({"form": {"mode": [mode]}, "files": {"image": [file]}}))
            finally:
                await model.end()

        asyncio.run(with_model())

    return run


def test_one_more_than_the_queue_holds_is_refused_at_once_with_a_time_to_come_back(run) -> None:
    async def test(model: ServedModel, ask) -> None:
        asked = [asyncio.create_task(ask("pause")) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(Busy) as refused:
            await ask("answer")
        assert refused.value.retry_after_seconds >= 1
        assert refused.value.status == 429
        assert all("error" not in answer.header for answer in await asyncio.gather(*asked))

    run(test, queue=2)


def test_a_module_that_is_too_slow_is_interrupted_and_the_next_request_answered(run) -> None:
    async def test(model: ServedModel, ask) -> None:
        began = time.monotonic()
        with pytest.raises(TooSlow, match="still at work"):
            await ask("sleep")
        assert time.monotonic() - began < 10
        answer = await ask("answer")
        assert answer.header["content_type"] == "application/json"

    run(test, deadline_seconds=1.5)


def test_a_request_whose_turn_does_not_come_is_told_so(run) -> None:
    async def test(model: ServedModel, ask) -> None:
        turns = [asyncio.create_task(ask("pause")) for _ in range(9)]  # 0.2 s each, one at a time
        await asyncio.wait(turns)
        errors = [error for turn in turns if (error := turn.exception())]
        assert 0 < len(errors) < len(turns)
        assert all(isinstance(error, Unavailable) for error in errors)
        assert any("its turn did not come" in str(error) for error in errors)

    run(test, deadline_seconds=0.9)


def test_a_caller_that_gives_up_while_waiting_leaves_the_queue(run) -> None:
    async def test(model: ServedModel, ask) -> None:
        first = asyncio.create_task(ask("pause"))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(ask("pause"))
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.wait([second])
        assert "error" not in (await ask("answer")).header
        assert "error" not in (await first).header

    run(test, queue=1)


def test_the_next_caller_never_gets_the_answer_of_one_that_gave_up(run) -> None:
    async def test(model: ServedModel, ask) -> None:
        first = asyncio.create_task(ask("bytes"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert (await ask("answer")).header == {"content_type": "application/json"}

    run(test)


def test_a_retired_model_answers_what_came_in_and_nothing_after(run) -> None:
    async def test(model: ServedModel, ask) -> None:
        asked = [asyncio.create_task(ask("pause")) for _ in range(3)]
        await asyncio.sleep(0.05)
        await model.retire()
        assert all("error" not in task.result().header for task in asked)
        with pytest.raises(Unavailable, match="no longer served"):
            await ask("answer")

    run(test)


def test_a_model_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_modules(tmp_path / "site")))

    async def start() -> ServedModel:
        deployed = Deployed(name="tiny", module="tiny-broken", model_version="a" * 64)
        model = ServedModel(deployed, tmp_path, None, Limits())
        with pytest.raises(ModuleFailed, match="a_library_that_nobody_has") as failed:
            await model.start()
        assert "Traceback" in failed.value.trace
        await model.end()
        return model

    assert "a_library_that_nobody_has" in asyncio.run(start()).reason


def test_a_module_that_takes_too_long_to_start_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_modules(tmp_path / "site")))

    async def start() -> None:
        deployed = Deployed(name="tiny", module="tiny", model_version="a" * 64)
        model = ServedModel(deployed, tmp_path, tmp_path, Limits(start_seconds=0.01))
        with pytest.raises(ModuleFailed, match=r"not ready after 0\.01 s"):
            await model.start()

    asyncio.run(start())
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if _has(path, str(tmp_path))]


def _has(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes() and b"bootstrap.py" in path.with_name("cmdline").read_bytes()
    except OSError:
        return False

"""How requests go to the workers: batches, work ahead, interrupts, what a death does to those who wait."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from volvox.errors import Unavailable
from volvox.serving.asking import Answer, Ask
from volvox.serving.deployed import Deployed
from volvox.serving.limits import Limits
from volvox.serving.served import ServedModel

MODULE = """
import os, time
from marshmallow import ValidationError, fields

calls = []


def get_predict_args():
    return {"number": fields.Int(load_default=0), "mode": fields.Str(load_default="")}


def predict(number, mode):
    calls.append(number)
    if mode == "sleep":
        for _ in range(300):
            time.sleep(0.01)
    if mode == "deaf":
        while True:
            try:
                time.sleep(1)
            except BaseException:
                pass
    if mode == "stream":
        return (b"part %d;" % part for part in range(number))
    if mode == "torn":
        return torn()
    if mode == "calls":
        return calls
    return {"number": number, "together": 1, "pid": os.getpid()}


def torn():
    yield b"a"
    raise RuntimeError("no more")
"""
BATCHES = (
    MODULE
    + """

def predict_batch(requests):
    if any(request["mode"] == "refuse" for request in requests):
        raise ValidationError({"mode": ["no"]})
    if any(request["mode"] == "die" for request in requests):
        os._exit(7)
    time.sleep(0.05)
    return [{"number": request["number"], "together": len(requests), "pid": os.getpid()} for request in requests]
"""
)

Asking = Callable[..., Awaitable[Answer]]


@pytest.fixture
def run(tmp_path: Path, install_module):
    install_module("single", MODULE)
    install_module("batches", BATCHES)

    def run(test: Callable[[ServedModel, Asking], Awaitable[None]], module: str = "single", **limits: Any) -> None:
        async def with_model() -> None:
            deployed = Deployed(name="m", module=module, model_version="a" * 64)
            model = ServedModel(deployed, tmp_path, None, Limits(**limits))
            await model.start()

            async def ask(number: int = 0, mode: str = "") -> Answer:
                return await model.predict({"query": {"number": [str(number)], "mode": [mode]}})

            try:
                await asyncio.wait_for(test(model, ask), 60)
            finally:
                await model.end()

        asyncio.run(with_model())

    return run


def _together(answers: list[Answer]) -> list[int]:
    import json

    told = [json.loads(answer.body)["predictions"] for answer in answers]
    assert [one["number"] for one in told] == list(range(len(told)))
    return [one["together"] for one in told]


def test_requests_that_wait_together_are_answered_together(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        answers = await asyncio.gather(*(ask(number) for number in range(20)))
        assert max(_together(answers)) >= 8
        assert _together([await ask(0)]) == [1]

    run(test, "batches", batch=16)


def test_one_that_is_refused_does_not_harm_those_it_waited_with(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        answers = await asyncio.gather(ask(0), ask(1, "refuse"), ask(2))
        assert ["error" in answer.header for answer in answers] == [False, False, False]
        assert _together(answers) == [1, 1, 1]  # predict() itself does not refuse it: each was asked alone
        wrong = await model.predict({"query": {"number": ["many"]}})
        assert wrong.header["error"]["messages"] == {"number": ["Not a valid integer."]}

    run(test, "batches")


def test_a_lone_request_never_waits_for_others(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        began = time.monotonic()
        for number in range(5):
            await ask(number)
        assert time.monotonic() - began < 5.0  # a delay of ten seconds each would be fifty

    run(test, "batches", batch_delay_seconds=10.0)


def test_a_crowd_waits_for_each_other_where_the_operator_wants_it(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        async def client(number: int) -> int:
            import json

            for _ in range(15):
                answer = await ask(number)
                await asyncio.sleep(0.002 * number)  # they do not come back at the same moment
            return json.loads(answer.body)["predictions"]["together"]

        assert max(await asyncio.gather(*(client(number) for number in range(6)))) >= 3

    run(test, "batches", batch_delay_seconds=0.5)


def test_one_that_kills_its_worker_fails_alone(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        asked = [ask(0), ask(1), ask(2, "die"), ask(3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, Answer) for answer in answers] == [True, True, True, True]
        assert model.restarts == 1  # then each was asked alone, and predict() does not die

    run(test, "batches", batch=8)


def test_what_a_dead_worker_had_not_begun_is_answered_by_the_next(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        first = asyncio.create_task(ask(1, "sleep"))
        others = [asyncio.create_task(ask(number)) for number in range(2, 5)]
        await asyncio.sleep(0.3)
        os.kill(model.worker_pids[0], signal.SIGKILL)
        with pytest.raises(Unavailable, match="was killed, most likely for lack of memory; it is being replaced"):
            await first
        assert all("error" not in answer.header for answer in await asyncio.gather(*others))

    run(test)


def test_work_that_nobody_waits_for_is_interrupted_and_its_worker_kept(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        await ask()
        pids = model.worker_pids
        abandoned = asyncio.create_task(ask(1, "sleep"))
        await asyncio.sleep(0.1)
        abandoned.cancel()
        began = time.monotonic()
        await ask(2)
        assert time.monotonic() - began < 2.5  # the work itself takes three seconds
        assert model.worker_pids == pids

    run(test)


def test_a_worker_that_does_not_listen_is_replaced(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        await ask()
        (pid,) = model.worker_pids
        abandoned = asyncio.create_task(ask(1, "deaf"))
        await asyncio.sleep(0.1)
        abandoned.cancel()
        await ask(2)
        assert model.worker_pids != [pid]
        assert model.restarts == 1

    run(test)


def test_several_workers_answer_at_the_same_time(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        assert len(set(model.worker_pids)) == 2
        slow = asyncio.create_task(ask(1, "sleep"))
        await asyncio.sleep(0.05)
        for _ in range(10):
            await ask()
        assert not slow.done()
        await slow

    run(test, workers=2)


class _Parts(Ask):
    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__(request)
        self.parts: list[bytes] = []
        self.end: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def part(self, header: dict[str, Any], body: bytes) -> None:
        self.parts.append(body)

    def answered(self, header: dict[str, Any], body: bytes) -> None:
        self.end.set_result(header)


def test_what_a_module_streams_comes_in_its_pieces(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        streamed = _Parts({"query": {"number": ["3"], "mode": ["stream"]}})
        model.submit(streamed)
        assert "error" not in await streamed.end
        assert streamed.parts == [b"part 0;", b"part 1;", b"part 2;"]
        torn = _Parts({"query": {"mode": ["torn"]}})
        model.submit(torn)
        assert "no more" in (await torn.end)["error"]["message"]
        assert (await ask(3, "stream")).body == b"part 0;part 1;part 2;"

    run(test)


def test_a_broken_worker_with_work_ahead_loses_none_of_it(run) -> None:
    async def test(model: ServedModel, ask: Asking) -> None:
        for number in range(60):  # now it is known as quick, and gets work ahead
            await ask(number)
        modes = [*20 * [""], "deaf", *20 * [""]]
        asked = [asyncio.create_task(ask(number, mode)) for number, mode in enumerate(modes)]
        await asyncio.gather(*asked[:20])
        while not any(begun.request["query"]["mode"] == ["deaf"] for begun in model.pool.workers[0].begun_asks()):
            await asyncio.sleep(0.01)
        os.kill(model.worker_pids[0], signal.SIGKILL)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, Unavailable) for answer in answers].count(True) == 1
        assert isinstance(answers[20], Unavailable)

    run(test, queue=100)

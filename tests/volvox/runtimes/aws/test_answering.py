"""Calls answered by containers, and what Lambda gives up."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.runtimes.aws.fakes import FakeAccount
from volvox.errors import ModuleFailed, Unavailable
from volvox.functions.definition import Function
from volvox.runtimes.aws import jobs as jobs_module
from volvox.runtimes.aws.jobs import Jobs, Seen
from volvox.runtimes.aws.lambda_batch_runtime import LambdaBatchRuntime, batch_seconds
from volvox.runtimes.interface import Call, Outcome, Status

FUNCTION = Function(name="f", image="i", script="x", settings={"bucket": "b"}, environment={"OWN": "1"})


class Scratch:
    """A scratch folder in memory."""

    bucket, prefix = "b", ".volvox/f"

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.made = 0

    def new(self, job: str) -> str:
        self.made += 1
        return f"{self.prefix}/{job}/{self.made}"

    def as_told(self) -> dict[str, str]:
        return {"bucket": self.bucket, "prefix": self.prefix}

    def put(self, key: str, path: Path) -> None:
        self.objects[key] = path.read_bytes()

    def write(self, key: str, value: Any) -> None:
        self.objects[key] = value

    def read(self, key: str) -> Any:
        return self.objects.get(key)

    def clear(self, prefix: str = "") -> None:
        self.objects = {key: value for key, value in self.objects.items() if not key.startswith(f"{prefix}/")}


class Engine:
    """Containers that go through states as they are looked at."""

    def __init__(self, scratch: Scratch, *states: Seen) -> None:
        self.scratch, self.states = scratch, states
        self.submitted: list[str] = []
        self.ended: list[str] = []
        self.looks: dict[str, int] = {}
        self.reply: Any = {"kind": "", "printed": "42\n", "exit_code": 0}
        self.down = 0
        self.arguments: list[dict[str, Any]] | None = None
        self.failed = ""

    def submit(self, name: str, variables: dict[str, str]) -> str:
        assert set(variables) == {"VOLVOX_EVENT"}
        identifier = variables["VOLVOX_EVENT"]
        self.submitted.append(identifier)
        self.looks[identifier] = -1
        return identifier

    def look(self, identifier: str) -> Seen | None:
        if self.down:
            self.down -= 1
            raise Unavailable("AWS does not answer")
        if identifier not in self.looks:
            return None
        self.looks[identifier] += 1
        seen = self.states[min(self.looks[identifier], len(self.states) - 1)]
        if seen.ended and self.reply is not None:
            key = identifier.removeprefix("s3://b/")
            event = self.scratch.objects[key]["volvox"]
            found = [{"job": one["job"], **self.reply} for one in event["calls"]]
            told: dict[str, Any] = {"outcomes": found, **({"failed": self.failed} if self.failed else {})}
            if event.get("describe") and self.arguments is not None:
                told["arguments"] = self.arguments
            self.scratch.objects[f"{key.rpartition('/')[0]}/reply.json"] = {"volvox": told}
        return seen

    def end(self, identifier: str, reason: str) -> None:
        self.ended.append(identifier)

    def log(self, identifier: str) -> str:
        return "what it printed"


WAITS = Seen("RUNNABLE", reason="MISCONFIGURATION: no machine is large enough")
RUNS, DONE = Seen("RUNNING", begun=True), Seen("SUCCEEDED", ended=True, begun=True)
FAILED = Seen("FAILED", ended=True, failed=True, reason="CannotPullContainerError: no image", begun=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "_LOOK_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(jobs_module, "_REPLY_SECONDS", (0.0, 0.0))


def made(folder: Path, engine: Engine) -> Jobs:
    async def off(do: Any) -> Any:
        return do()

    return Jobs(FUNCTION, FakeAccount(), engine, engine.scratch, folder, None, off)  # type: ignore[arg-type]


def call(folder: Path, text: str = "content", job: str = "1a" * 16) -> Call:
    where = folder / job
    (where / "out").mkdir(parents=True)
    (where / "in.txt").write_text(text)
    return Call(job, where / "in.txt", where / "out", where / "log", key="in.txt", relative="in.txt")


def test_a_call_is_a_job_and_while_that_waits_its_log_says_why(tmp_path: Path) -> None:
    engine = Engine(Scratch(), WAITS, WAITS, RUNS, DONE)
    asked = call(tmp_path)
    (outcome,) = asyncio.run(made(tmp_path, engine).answer([asked]))
    assert (outcome.kind, outcome.printed, outcome.exit_code) == ("", "42\n", 0)
    assert asked.log is not None
    assert asked.log.read_text() == "RUNNABLE: MISCONFIGURATION: no machine is large enough\n"
    assert engine.scratch.objects == {} and not list((tmp_path / "jobs").iterdir())


def test_what_the_job_is_told_lies_in_the_bucket_and_not_in_its_variables(tmp_path: Path) -> None:
    class Kept(Scratch):
        def clear(self, prefix: str = "") -> None:
            pass

    engine = Engine(Kept(), DONE)
    asyncio.run(made(tmp_path, engine).answer([call(tmp_path)]))
    (event,) = (value for key, value in engine.scratch.objects.items() if key.endswith("event.json"))
    told = event["volvox"]
    assert told["environment"] == {"OWN": "1"}
    assert base64.b64decode(told["calls"][0]["file"]["content"]) == b"content"


def test_one_that_leaves_no_reply_is_told_in_aws_words_with_its_log(tmp_path: Path) -> None:
    engine = Engine(Scratch(), FAILED)
    engine.reply = None
    asked = call(tmp_path)
    (outcome,) = asyncio.run(made(tmp_path, engine).answer([asked]))
    assert outcome.kind == "failed" and "no image" in outcome.reason
    assert asked.log is not None and asked.log.read_text() == "what it printed\n"


def test_while_aws_does_not_answer_the_job_goes_on(tmp_path: Path) -> None:
    engine = Engine(Scratch(), RUNS, RUNS, DONE)
    engine.down = 3
    (outcome,) = asyncio.run(made(tmp_path, engine).answer([call(tmp_path)]))
    assert outcome.kind == "" and len(engine.submitted) == 1


def test_a_dispatcher_that_was_killed_joins_its_job(tmp_path: Path) -> None:
    engine = Engine(Scratch(), RUNS, DONE)
    jobs, asked = made(tmp_path, engine), call(tmp_path)
    jobs._begun(jobs.folder / "jobs" / "x.json", [asked])  # what lies there is read by its name below
    (note,) = (tmp_path / "jobs").iterdir()
    from volvox.identity import digest_of

    note.rename(tmp_path / "jobs" / f"{digest_of([asked.job])[:40]}.json")
    (outcome,) = asyncio.run(made(tmp_path, engine).answer([asked]))
    assert outcome.kind == "" and len(engine.submitted) == 1


def test_a_job_that_nobody_knows_any_more_is_begun_again(tmp_path: Path) -> None:
    engine = Engine(Scratch(), DONE)
    asked = call(tmp_path)
    from volvox.identity import digest_of

    (tmp_path / "jobs").mkdir()
    note = tmp_path / "jobs" / f"{digest_of([asked.job])[:40]}.json"
    note.write_text(json.dumps({"id": "s3://b/gone", "folder": "gone"}))
    (outcome,) = asyncio.run(made(tmp_path, engine).answer([asked]))
    assert outcome.kind == "" and len(engine.submitted) == 1


def test_one_that_is_cancelled_is_ended_with_all_that_was_told(tmp_path: Path) -> None:
    engine = Engine(Scratch(), RUNS)

    async def test() -> None:
        asked = asyncio.create_task(made(tmp_path, engine).answer([call(tmp_path)]))
        while not engine.looks:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(test())
    assert engine.ended == engine.submitted and engine.scratch.objects == {}


def test_a_dispatcher_that_ends_leaves_its_job_to_the_next_one(tmp_path: Path) -> None:
    engine = Engine(Scratch(), RUNS)
    asked = call(tmp_path)

    async def test() -> None:
        jobs = made(tmp_path, engine)
        answering = asyncio.create_task(jobs.answer([asked]))
        while not engine.looks:
            await asyncio.sleep(0)
        jobs.let_go = True
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering

    asyncio.run(test())
    assert engine.ended == []
    engine.states = (DONE,)
    (outcome,) = asyncio.run(made(tmp_path, engine).answer([asked]))
    assert outcome.kind == "" and len(engine.submitted) == 1


def test_a_version_is_proven_by_a_container_that_describes_it_and_another_version_by_another(tmp_path: Path) -> None:
    engine = Engine(Scratch(), RUNS, DONE)
    engine.arguments = [{"name": "image"}]
    jobs, asked = made(tmp_path, engine), call(tmp_path)
    outcomes, described = asyncio.run(jobs.prove("v1", [asked]))
    assert ([one.kind for one in outcomes], described) == ([""], [{"name": "image"}])
    (tmp_path / "jobs" / "left.json").write_text("{}")  # another's
    asyncio.run(jobs.prove("v2", [asked]))
    assert len(engine.submitted) == 2 and engine.scratch.objects == {}


@pytest.mark.parametrize("samples", [0, 1])
def test_one_that_does_not_start_is_told_with_what_it_said(tmp_path: Path, samples: int) -> None:
    engine = Engine(Scratch(), DONE)
    engine.failed, engine.reply = "no weights", {"kind": "failed", "reason": "no weights"}
    with pytest.raises(ModuleFailed, match="does not start: no weights"):
        asyncio.run(made(tmp_path, engine).prove("v1", [call(tmp_path)] * samples))


# -- what Lambda gives up --------------------------------------------------------------------------------------------


class Part:
    """One of the two runtimes that `lambda-batch` is made of."""

    def __init__(self, outcomes: dict[str, Outcome], *, absent: bool = False) -> None:
        self.outcomes, self.absent = outcomes, absent
        self.asked: list[Call] = []
        self.beyond: dict[str, str] = {}
        self.deployed: list[str] = []
        self.bad: set[str] = set()

    async def deploy(self, function: Function, *, version: str, **_: Any) -> None:
        if version in self.bad:
            raise ModuleFailed("it does not answer")
        self.deployed.append(version)
        self.absent = False

    async def status(self, name: str) -> Status:
        return Status("absent") if self.absent else Status("ready", (self.deployed or ["v"])[-1])

    async def invoke(self, name: str, calls: list[Call]) -> list[Outcome]:
        self.asked += calls
        return [self.outcomes.get(one.job, Outcome(one.job, printed="done")) for one in calls]

    def function(self, name: str) -> Function:
        return FUNCTION


def both(folder: Path, first: Part, second: Part) -> LambdaBatchRuntime:
    runtime = LambdaBatchRuntime(folder / "runtime", None)  # type: ignore[arg-type]
    runtime._lambda, runtime._batch = first, second  # type: ignore[assignment]
    return runtime


def ask(runtime: LambdaBatchRuntime, *calls: Call) -> list[Outcome]:
    return asyncio.run(runtime.invoke("f", calls))


@pytest.mark.parametrize(
    ("kind", "reason"), [("timeout", "Task timed out"), ("memory", "no memory"), ("storage", "full")]
)
def test_what_lambda_cannot_finish_goes_to_batch_once_and_nothing_else_does(
    tmp_path: Path, kind: Any, reason: str
) -> None:
    one, two, three = (call(tmp_path, job=str(number) * 32) for number in (1, 2, 3))
    first = Part({one.job: Outcome(one.job, kind, reason), three.job: Outcome(three.job, "refused", "no image")})
    second = Part({})
    found = ask(both(tmp_path, first, second), one, two, three)
    assert [outcome.kind for outcome in found] == ["", "", "refused"]
    (later,) = second.asked
    assert (later.job, later.input, later.output) == (one.job, one.input, one.output)
    assert later.timeout_seconds == 86_400 and one.log is not None and reason in one.log.read_text()


def test_one_that_batch_did_not_finish_either_goes_to_batch_again_and_never_back(tmp_path: Path) -> None:
    one = call(tmp_path)
    first = Part({one.job: Outcome(one.job, "timeout", "too long")})
    second = Part({one.job: Outcome(one.job, "gone", "its machine was taken away")})
    assert ask(both(tmp_path, first, second), one)[0].kind == "gone"
    second.outcomes = {}
    assert ask(both(tmp_path, first, second), one)[0].kind == ""  # as after a kill of the dispatcher too
    assert len(first.asked) == 1 and len(second.asked) == 2
    first.outcomes = {}
    ask(both(tmp_path, first, second), one)  # asked for once more by somebody: from the beginning
    assert len(first.asked) == 2 and len(second.asked) == 2


def test_what_is_known_before_never_sees_lambda(tmp_path: Path) -> None:
    first, second = Part({}, absent=True), Part({})
    assert ask(both(tmp_path, first, second), call(tmp_path))[0].kind == ""
    assert first.asked == [] and len(second.asked) == 1


def test_an_answer_that_is_too_large_goes_to_batch_by_what_lambda_noted(tmp_path: Path) -> None:
    one = call(tmp_path)
    first, second = Part({one.job: Outcome(one.job, "failed", "its answer is larger")}), Part({})
    first.beyond[one.job] = "its answer is larger than what Lambda passes on"
    assert ask(both(tmp_path, first, second), one)[0].kind == "" and len(second.asked) == 1
    assert first.beyond == {}


def test_a_version_that_lambda_does_not_prove_gets_no_calls_on_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Part({}, absent=True), Part({}, absent=True)
    runtime = both(tmp_path, first, second)
    monkeypatch.setattr(runtime, "_known_before", lambda _: [])
    first.bad = {"2"}

    async def test() -> None:
        await runtime.deploy(FUNCTION, version="1")
        with pytest.raises(ModuleFailed):
            await runtime.deploy(FUNCTION, version="2")
        await runtime.deploy(FUNCTION, version="3")

    asyncio.run(test())
    assert first.deployed == second.deployed == ["1", "3"]


def test_on_batch_a_call_has_a_day_unless_something_else_is_said() -> None:
    assert batch_seconds(FUNCTION) == 86_400
    stated = FUNCTION.model_copy(update={"settings": {"batch": {"timeout_seconds": 60}}})
    assert batch_seconds(stated) == 60

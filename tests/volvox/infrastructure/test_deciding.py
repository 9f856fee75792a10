from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from volvox.infrastructure.deciding import Action, Cancelled, Crashed, End, Run, Waits, decide
from volvox.infrastructure.jobs import Job

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OURS, THEIRS = "pool-ours", "pool-theirs"
OOM = "out of memory: the container had 512 MB; give the pool or the stage more (memory_mb)"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def run(state: str, for_seconds: float = 30, **rest) -> Run:
    return Run(id="r", state=state, since=ago(for_seconds), pool_id=OURS, **{"identifier": "j", **rest})


def job(state: str = "running", **rest) -> Job:
    return Job(**{"run_id": "r", "identifier": "j", "name": "container c", "state": state, "pool_id": OURS, **rest})


def decided(some: Run | None, *jobs: Job, covers=lambda _: True) -> list[Action]:
    return decide([some] if some else [], jobs, NOW, pools={OURS}, covers=covers)


def test_a_job_of_a_cancelled_run_ends_and_only_then_is_the_run_called_cancelled() -> None:
    (action,) = decided(run("CANCELLING", 0), job())
    assert action == End(job(), 6.0, cancelled=True)
    assert decided(run("CANCELLING", 0)) == [Cancelled("r")]
    assert decided(run("CANCELLING", 0, submitting=True)) == [], "its job may come any moment"
    assert decided(run("CANCELLING", 5, submitting=True)) == [Cancelled("r")], "an image may be fetched for minutes"
    assert decided(run("CANCELLING", 0), covers=lambda _: False) == [], "it may run where we do not look"


def test_a_cancelled_run_that_has_not_started_gets_no_time() -> None:
    (action,) = decided(run("CANCELLED", 0, started=False), job("starting"))
    assert action == End(job("starting"), 0.0, cancelled=True)


def test_a_completed_run_has_some_seconds_to_leave() -> None:
    for state in ("COMPLETED", "FAILED", "CRASHED"):
        assert decided(run(state, 9), job()) == []
        (action,) = decided(run(state, 11), job())
        assert isinstance(action, End) and not action.cancelled


def test_an_ended_job_is_removed_once_its_run_is_over() -> None:
    assert decided(run("COMPLETED", 1), job("ended", exit_code=0)) == []
    assert decided(run("COMPLETED", 4), job("ended", exit_code=0)) == [End(job("ended", exit_code=0), 0.0)]


def test_a_killed_job_tells_its_run_the_true_reason_at_once() -> None:
    dead = job("ended", exit_code=137, reason="out_of_memory", message=OOM, output="epoch 3")
    for state in ("RUNNING", "PENDING"):
        assert decided(run(state, 1), dead) == [Crashed("r", OOM, "epoch 3")]
    assert decided(run("RUNNING", 1, again=True), dead) == [Crashed("r", OOM, "epoch 3")], "it would happen again"


def test_a_stuck_job_is_told_and_then_removed() -> None:
    stuck = job("stuck", reason="image_not_found", message="image a:1 was not found")
    assert decided(run("PENDING", 1), stuck) == [Crashed("r", "image a:1 was not found")]
    assert decided(run("CRASHED", 4), stuck) == [End(stuck, 0.0)]


def test_a_vanished_job_is_told_after_a_moment_and_run_again_if_its_flow_allows() -> None:
    assert decided(run("RUNNING", identifier_since=ago(3))) == []
    (action,) = decided(run("RUNNING", identifier="http+docker://localhost:abc", identifier_since=ago(5)))
    assert isinstance(action, Crashed) and "the container was removed" in action.message and not action.again
    (action,) = decided(run("RUNNING", identifier_since=ago(5), again=True))
    assert isinstance(action, Crashed) and action.again
    assert decided(run("RUNNING", identifier_since=ago(5)), covers=lambda _: False) == []


def test_a_run_that_is_being_submitted_is_left_alone_and_a_lost_submission_is_told() -> None:
    assert decided(run("PENDING", 59, identifier="")) == []
    assert decided(run("PENDING", 600, identifier="", submitting=True)) == []
    (action,) = decided(run("PENDING", 61, identifier=""))
    assert isinstance(action, Crashed) and "worker" in action.message


def test_the_job_of_an_attempt_before_is_not_taken_for_this_one() -> None:
    old = job("ended", identifier="old", exit_code=137, reason="out_of_memory", message=OOM, created=ago(100))
    assert decided(run("PENDING", 1, identifier=""), old) == []
    assert decided(run("RUNNING", 1, identifier="j"), old, job()) == []


def test_a_process_that_ended_well_without_a_word_is_told_after_a_while() -> None:
    assert decided(run("RUNNING"), job("ended", exit_code=0, ended=ago(5))) == []
    (action,) = decided(run("RUNNING"), job("ended", exit_code=0, ended=ago(15)))
    assert isinstance(action, Crashed) and "never told" in action.message


def test_a_generic_message_is_replaced_by_the_reason_and_only_once() -> None:
    dead = job("ended", exit_code=137, reason="out_of_memory", message=OOM)
    generic = "Flow run infrastructure exited with non-zero status code 137. Killed."
    assert decided(run("CRASHED", 1, message=generic), dead) == [Crashed("r", OOM, amend=True)]
    assert decided(run("CRASHED", 1, message=OOM), dead) == []
    assert decided(run("CRASHED", 1, message="the disk is full"), dead) == []
    (action,) = decided(run("FAILED", 1, message="the module's process was killed"), dead)
    assert isinstance(action, Crashed) and action.message == f"{OOM}; the module's process was killed"


def test_what_it_waits_for_is_told() -> None:
    assert decided(run("PENDING"), job("waiting", message="0/1 nodes")) == [Waits("r", "0/1 nodes")]


def test_a_job_of_a_deleted_run_ends_if_its_pool_is_ours_and_never_else() -> None:
    assert decided(None, job()) == [End(job(), 6.0)]
    assert decided(None, job(pool_id=THEIRS)) == []
    assert decided(None, job(pool_id="")) == []


def test_a_run_whose_process_was_asked_to_end_is_run_again_if_its_flow_allows() -> None:
    said = "Execution was aborted by a termination signal."
    (action,) = decided(run("CRASHED", 1, message=said))
    assert isinstance(action, Crashed) and action.amend and not action.again, "it is told who ended it"
    assert decided(run("CRASHED", 1, message=action.message)) == [], "once"
    (action,) = decided(run("CRASHED", 1, message=said, again=True))
    assert isinstance(action, Crashed) and action.again and not action.amend
    assert decided(run("CRASHED", 1, message=said, again=True), job()) == [], "first its process must be gone"
    assert decided(run("CRASHED", 1, message="the disk is full", again=True)) == []


def test_a_job_that_would_start_for_a_run_that_is_over_does_not() -> None:
    assert decided(run("CRASHED", 0), job("waiting")) == [End(job("waiting"), 0.0)]


# -- properties ------------------------------------------------------------------------------------------------------

IDS = st.sampled_from(["a", "b", "c"])
STATES = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED", "CRASHED"]
PAST = st.floats(0, 200).map(ago)
RUNS = st.lists(
    st.builds(
        Run,
        id=IDS,
        state=st.sampled_from(STATES),
        since=PAST,
        message=st.sampled_from(["", "No sign of life: gone", "odd", "Execution was aborted by a termination signal."]),
        pool_id=st.sampled_from([OURS, THEIRS, ""]),
        identifier=st.sampled_from(["", "1", "2", "3"]),
        identifier_since=PAST,
        submitting=st.booleans(),
        again=st.booleans(),
        started=st.booleans(),
    ),
    unique_by=lambda one: one.id,
)
OUTCOMES = st.sampled_from(
    [("waiting", "", None), ("starting", "", None), ("running", "", None), ("ended", "", 0), ("ended", "error", 1),
     ("ended", "out_of_memory", 137), ("ended", "gone", None), ("stuck", "image_not_found", None)]
)  # fmt: skip


@st.composite
def a_job(draw) -> Job:
    state, reason, code = draw(OUTCOMES)
    return Job(
        run_id=draw(IDS), identifier=draw(st.sampled_from(["1", "2", "3"])), name="job", state=state,
        pool_id=draw(st.sampled_from([OURS, THEIRS, ""])), reason=reason, exit_code=code,
        message=f"because {reason}" if reason else "", created=draw(PAST),
        ended=draw(PAST) if state == "ended" else None,
    )  # fmt: skip


JOBS = st.lists(a_job(), unique_by=lambda one: one.identifier)


def known_as_ours(one: Job, runs: list[Run]) -> bool:
    pools = {some.id: some.pool_id for some in runs}
    return (one.pool_id or pools.get(one.run_id, "")) == OURS


@given(RUNS, JOBS)
def test_nothing_of_others_is_ever_touched(runs: list[Run], jobs: list[Job]) -> None:
    ours = {some.id for some in runs if some.pool_id == OURS} | {j.run_id for j in jobs if known_as_ours(j, runs)}
    for action in decide(runs, jobs, NOW, pools={OURS}):
        if isinstance(action, End):
            assert known_as_ours(action.job, runs)
        else:
            assert action.run_id in ours


@given(RUNS, JOBS)
def test_no_live_run_is_crashed_and_no_wanted_job_is_ended(runs: list[Run], jobs: list[Job]) -> None:
    states = {some.id: some.state for some in runs}
    for action in decide(runs, jobs, NOW, pools={OURS}):
        if isinstance(action, End):
            assert states.get(action.job.run_id) not in ("SCHEDULED", "PENDING", "RUNNING", "PAUSED")
        elif isinstance(action, Crashed) and not action.amend:
            assert states[action.run_id] in ("PENDING", "RUNNING") or action.again
            assert not any(j.live for j in jobs if j.run_id == action.run_id and known_as_ours(j, runs))
        elif isinstance(action, Cancelled):
            assert states[action.run_id] == "CANCELLING"


@given(RUNS, JOBS)
def test_server_and_engine_come_to_agree_and_then_nothing_is_done(runs: list[Run], jobs: list[Job]) -> None:
    now = NOW
    for _ in range(10):
        now += timedelta(seconds=20)
        actions = [a for a in decide(runs, jobs, now, pools={OURS}) if not isinstance(a, Waits)]
        for action in actions:
            if isinstance(action, End):
                jobs = [j for j in jobs if j.identifier != action.job.identifier]
                if action.cancelled:
                    runs = [replace(r, state="CANCELLED") if r.id == action.job.run_id else r for r in runs]
            elif isinstance(action, Cancelled):
                runs = [replace(r, state="CANCELLED") if r.id == action.run_id else r for r in runs]
            elif isinstance(action, Crashed):
                state = "SCHEDULED" if action.again else "CRASHED"
                changed = {} if action.amend else {"state": state, "since": now}
                message = action.message
                runs = [replace(r, message=message, **changed) if r.id == action.run_id else r for r in runs]
    assert actions == []
    over = {r.id for r in runs if r.state in ("CANCELLED", "COMPLETED", "FAILED", "CRASHED", "CANCELLING")}
    assert not [j for j in jobs if j.run_id in over and known_as_ours(j, runs)], "nothing is left of what is over"
    known = {r.id for r in runs}
    assert not [j for j in jobs if j.run_id not in known and j.pool_id == OURS]
    for r in runs:
        if r.state == "RUNNING" and r.pool_id == OURS and r.identifier:
            assert any(j.live for j in jobs if j.run_id == r.id and known_as_ours(j, runs)), "no run of a dead job"

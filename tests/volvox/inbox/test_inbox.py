from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.volvox.inbox.conftest import job, opened
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.inbox import Arrival, Ending, Inbox, open_inbox
from volvox.settings import Home

ME = "me"


def taken(inbox: Inbox, count: int = 100, **more: int) -> list[str]:
    return [one.key for one in inbox.take("f", count, ME, **more)]


def test_an_arrival_waits_until_it_was_looked_at(inbox: Inbox) -> None:
    inbox.record([Arrival("s3://b", "a b+%2F.png", "v1", source="webhook", user="u", event="{}", priority=3)])
    (waiting,) = inbox.arrivals()
    assert waiting.arrival == Arrival("s3://b", "a b+%2F.png", "v1", source="webhook", user="u", event="{}", priority=3)
    assert inbox.enter([job("a b+%2F.png")], looked_at=[waiting.number]) == [job("a b+%2F.png").id]
    assert inbox.arrivals() == []
    assert inbox.arrivals_waiting() == 0


def test_a_key_that_no_place_has_is_kept_all_the_same(inbox: Inbox) -> None:
    inbox.record([Arrival("s3://b", "a\0b")])
    assert len(inbox.arrivals()) == 1
    inbox.refuse(job("a\0b"), "it has a control character in it")
    (kept,) = inbox.jobs()
    assert (kept.state, kept.reason, kept.error) == ("FAILED", "it has a control character in it", {"kind": "refused"})


def test_an_arrival_whose_place_does_not_answer_is_looked_at_later(inbox: Inbox) -> None:
    inbox.record([Arrival("s3://b", "a"), Arrival("s3://b", "b")])
    first, second = inbox.arrivals()
    inbox.postpone([first.number], "the store does not answer", 0.2)
    assert [one.number for one in inbox.arrivals()] == [second.number]
    time.sleep(0.25)
    again = inbox.arrivals()[0]
    assert (again.number, again.tries, again.reason) == (first.number, 1, "the store does not answer")


def test_a_version_of_an_object_is_entered_once(inbox: Inbox) -> None:
    assert inbox.enter([job(), job()]) == [job().id]
    assert inbox.enter([job()]) == []
    overwritten, elsewhere = job(version="2"), job(function="g")
    assert inbox.enter([overwritten, elsewhere]) == [overwritten.id, elsewhere.id]
    assert len(inbox.jobs()) == 3


def test_a_job_goes_through_its_states_with_times_and_reasons(inbox: Inbox) -> None:
    inbox.enter([job()])
    (mine,) = inbox.take("f", 1, ME)
    assert (mine.state, mine.attempts, mine.holder) == ("STARTING", 1, ME)
    inbox.running([mine.id], ME, "v7")
    ended = inbox.end([Ending(mine.id, "SUCCEEDED", outputs=[{"key": "out/a.json", "size": 3}])], ME)
    assert ended == [mine.id]
    done = inbox.job(mine.id[:8])
    assert [step.state for step in done.steps] == ["PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    assert [step.time for step in done.steps] == sorted(step.time for step in done.steps)
    assert (done.outputs, done.function_version, done.holder) == (({"key": "out/a.json", "size": 3},), "v7", "")
    assert done.ended >= done.created > 0


def test_what_failed_for_a_while_waits_and_is_taken_again(inbox: Inbox) -> None:
    inbox.enter([job()])
    (mine,) = inbox.take("f", 1, ME)
    inbox.end([Ending(mine.id, "PENDING", "the store did not answer; tried again in 0.2 s", again_in=0.2)], ME)
    assert inbox.job(mine.id).reason.startswith("the store did not answer")
    assert taken(inbox) == []
    assert inbox.wake() == 0
    due = inbox.next_wake()
    assert due is not None
    time.sleep(max(0.0, due - time.time()) + 0.05)
    assert inbox.wake() == 1
    (again,) = inbox.take("f", 1, ME)
    assert (again.id, again.attempts) == (mine.id, 2)


def test_only_its_holder_ends_a_job_and_only_once(inbox: Inbox) -> None:
    inbox.enter([job()])
    (mine,) = inbox.take("f", 1, ME)
    assert inbox.end([Ending(mine.id, "FAILED", "no")], "somebody else") == []
    assert inbox.end([Ending(mine.id, "SUCCEEDED")], ME) == [mine.id]
    assert inbox.end([Ending(mine.id, "FAILED", "late")], ME) == []
    assert inbox.job(mine.id).state == "SUCCEEDED"


def test_of_jobs_the_one_with_priority_goes_first_then_users_take_turns(inbox: Inbox) -> None:
    inbox.enter([job(f"a{n}", user="a") for n in range(5)] + [job(f"b{n}", user="b") for n in range(2)])
    inbox.enter([job("urgent", user="a", priority=1)])
    assert taken(inbox, 3) == ["urgent", "b0", "a0"], "a has the urgent one already"
    assert taken(inbox, 2) == ["b1", "a1"]
    assert taken(inbox) == ["a2", "a3", "a4"]


def test_a_user_who_has_many_at_work_waits_and_others_do_not(inbox: Inbox) -> None:
    inbox.enter([job(f"a{n}", user="a") for n in range(4)] + [job("b0", user="b"), job("n0"), job("n1"), job("n2")])
    assert sorted(taken(inbox, per_user=2)) == ["a0", "a1", "b0", "n0", "n1", "n2"], "nobody has no limit"
    assert taken(inbox, per_user=2) == []
    (first,) = [one for one in inbox.jobs(states=["STARTING"]) if one.key == "a0"]
    inbox.end([Ending(first.id, "SUCCEEDED")], ME)
    assert taken(inbox, per_user=2) == ["a2"]


def test_a_job_whose_deadline_has_passed_is_not_begun(inbox: Inbox) -> None:
    inbox.enter([job("late", deadline=time.time() - 1), job("early", deadline=time.time() + 60)])
    assert taken(inbox) == ["early"]
    (late,) = inbox.jobs(states=["FAILED"])
    assert (late.key, late.error) == ("late", {"kind": "deadline"})
    assert "deadline" in late.reason


def test_what_a_dead_holder_had_runs_again_and_that_was_no_attempt(inbox: Inbox) -> None:
    inbox.enter([job()])
    for _ in range(3):
        (mine,) = inbox.take("f", 1, "dead")
        assert mine.attempts == 1
        assert inbox.reclaim(ME) == [job().id]
    assert inbox.job(job().id).state == "RUNNABLE"
    assert "begun again" in inbox.job(job().id).reason


def test_a_job_that_ends_what_is_at_it_ten_times_is_left(inbox: Inbox) -> None:
    inbox.enter([job()])
    for number in range(10):
        assert len(inbox.take("f", 1, f"dead {number}")) == 1
        inbox.reclaim(ME)
    assert inbox.job(job().id).state == "FAILED"
    assert inbox.job(job().id).error == {"kind": "gone"}
    assert inbox.retry(job().id).state == "RUNNABLE"
    inbox.take("f", 1, "dead again")
    inbox.reclaim(ME)
    assert inbox.job(job().id).state == "RUNNABLE", "who asked again starts at nothing"


def test_a_holder_that_was_heard_of_keeps_its_jobs(inbox: Inbox) -> None:
    inbox.enter([job()])
    inbox.beat("other")
    inbox.take("f", 1, "other")
    assert inbox.reclaim(ME, silent_seconds=5) == []
    time.sleep(0.1)
    assert inbox.reclaim(ME, silent_seconds=0.05) == [job().id]


def test_what_was_not_begun_is_given_back(inbox: Inbox) -> None:
    inbox.enter([job()])
    (mine,) = inbox.take("f", 1, ME)
    inbox.give_back([mine.id], ME, "the dispatcher is about to end")
    (again,) = inbox.take("f", 1, ME)
    assert again.attempts == 1


def test_cancelling_ends_what_waits_and_asks_the_holder_of_what_runs(inbox: Inbox) -> None:
    inbox.enter([job("waits", priority=-1), job("runs")])
    (runs,) = inbox.take("f", 1, ME)
    (waits,) = inbox.jobs(states=["RUNNABLE"])
    assert inbox.cancel(waits.id, by="ann").state == "FAILED"
    assert inbox.job(waits.id).reason == "cancelled by ann"
    assert inbox.cancel(runs.id).state == "STARTING"
    assert inbox.cancelled(ME) == [runs.id]
    inbox.end([Ending(runs.id, "FAILED", "cancelled", error={"kind": "cancelled"})], ME)
    with pytest.raises(InvalidInput, match="has ended already"):
        inbox.cancel(runs.id)


def test_what_failed_runs_again_when_somebody_asks(inbox: Inbox) -> None:
    inbox.enter([job()])
    inbox.take("f", 1, ME)
    with pytest.raises(InvalidInput, match="STARTING"):
        inbox.retry(job().id)
    inbox.end([Ending(job().id, "FAILED", "exit 3", error={"kind": "failed", "exit_code": 3})], ME)
    assert inbox.job(job().id).error == {"kind": "failed", "exit_code": 3}
    asked = inbox.retry(job().id, by="bob")
    assert (asked.state, asked.attempts, asked.error, asked.reason) == ("RUNNABLE", 0, {}, "asked to run again by bob")


def test_jobs_are_found_by_what_is_known_of_them(inbox: Inbox) -> None:
    inbox.enter(
        [job(f"in/x_{n}.png", user="ann" if n % 2 else "") for n in range(6)] + [job("in/xy3.png", function="g")]
    )
    assert [one.key for one in inbox.jobs(function="f", limit=2)] == ["in/x_5.png", "in/x_4.png"]
    last = inbox.jobs(function="f", limit=2)[-1]
    assert [one.key for one in inbox.jobs(function="f", limit=2, before=last.number)] == ["in/x_3.png", "in/x_2.png"]
    assert {one.key for one in inbox.jobs(user="ann")} == {"in/x_1.png", "in/x_3.png", "in/x_5.png"}
    assert [one.key for one in inbox.jobs(key="x_3")] == ["in/x_3.png"], "_ is no pattern"
    assert inbox.counts() == {"f": {"RUNNABLE": 6}, "g": {"RUNNABLE": 1}}
    with pytest.raises(InvalidInput, match="no state 'DONE'"):
        inbox.jobs(states=["DONE"])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("asked", ["", "xyz", "'; DROP TABLE jobs; --", "0" * 32, "%"])
def test_a_job_that_is_not_there_is_said_not_to_be(inbox: Inbox, asked: str) -> None:
    with pytest.raises(NotFound, match="there is no job"):
        inbox.job(asked)


def test_an_id_that_is_too_short_for_one_job_is_refused(inbox: Inbox) -> None:
    inbox.enter([job(str(number)) for number in range(40)])
    with pytest.raises(InvalidInput, match="several jobs"):
        for digit in "0123456789abcdef":
            inbox.job(digit)


def test_changes_are_told_in_order_and_none_is_missed(inbox: Inbox) -> None:
    start = inbox.last_change()
    inbox.enter([job("a"), job("b")])
    told = inbox.changes(start)
    assert [one.key for one in told] == ["a", "b"]
    inbox.take("f", 1, ME)
    later = inbox.changes(told[-1].change)
    assert [(one.key, one.state) for one in later] == [("a", "STARTING")]
    assert inbox.changes(later[-1].change) == []
    assert inbox.last_change() == later[-1].change


def test_a_sweep_learns_what_is_known(inbox: Inbox) -> None:
    inbox.enter([job("a"), job("b", version="2")])
    assert inbox.known("f", "s3://b", [("a", "1"), ("b", "1"), ("c", "1")]) == {("a", "1")}
    assert inbox.known("g", "s3://b", [("a", "1")]) == set()


def test_what_ended_long_ago_is_forgotten(inbox: Inbox) -> None:
    inbox.enter([job("a"), job("b")])
    (one, _) = inbox.take("f", 2, ME)
    inbox.end([Ending(one.id, "SUCCEEDED")], ME)
    assert inbox.expire("f", days=1) == []
    time.sleep(0.02)
    assert [gone.id for gone in inbox.expire("f", days=0.01 / 86400)] == [one.id]
    assert [left.key for left in inbox.jobs()] == ["b"]


def test_another_process_is_heard_and_oneself_is_not(inbox: Inbox, address: str) -> None:
    other = opened(address)
    inbox.changed()
    assert not inbox.changed()
    inbox.record([Arrival("s3://b", "own")])
    assert not inbox.changed()
    other.record([Arrival("s3://b", "theirs")])
    deadline = time.monotonic() + 2
    while not inbox.changed():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not inbox.changed()
    other.close()


def test_several_who_take_at_one_moment_share_the_jobs(inbox: Inbox, address: str) -> None:
    inbox.enter([job(f"{number:03}") for number in range(120)])
    found: list[str] = []

    def take(name: str) -> None:
        mine = opened(address)
        while got := mine.take("f", 7, name):
            found.extend(one.key for one in got)
        mine.close()

    threads = [threading.Thread(target=take, args=(f"holder {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [f"{number:03}" for number in range(120)]


def test_what_was_recorded_is_there_for_the_next_process(inbox: Inbox, address: str) -> None:
    inbox.record([Arrival("s3://b", "a")])
    inbox.enter([job()])
    inbox.close()
    again = opened(address)
    assert (again.arrivals_waiting(), len(again.jobs())) == (1, 1)
    again.close()


def test_the_home_has_an_inbox_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLVOX_INBOX", raising=False)
    open_inbox(Home(tmp_path)).close()
    assert (tmp_path / "dispatch" / "inbox.db").is_file()


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ("mysql://h/d", InvalidInput, "begins with mysql://"),
        ("postgresql://user:hunter2@127.0.0.1:9/d", Unavailable, "127.0.0.1:9/d does not answer"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(
    tmp_path: Path, given: str, kind: type, said: str
) -> None:
    with pytest.raises(kind, match=said) as refused:
        open_inbox(Home(tmp_path), given)
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_no_inbox_is_refused_and_left_alone(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "x.db"
    path.write_text("this is a text\n" * 100)
    with pytest.raises(InvalidInput, match="cannot be read as a database"):
        open_inbox(Home(tmp_path), str(path))
    assert path.read_text().startswith("this is a text")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE birds (name)")
    with pytest.raises(InvalidInput, match="something else"):
        open_inbox(Home(tmp_path), str(other))


def test_the_user_with_most_fresh_jobs_is_a_crowd(inbox: Inbox) -> None:
    assert inbox.crowd("f", 1, 10) is None
    inbox.enter([job(f"a{number}", user="ann") for number in range(3)])
    inbox.enter([job(f"b{number}", user="bob") for number in range(5)])
    assert inbox.crowd("f", 3, 10) == ("bob", 5)
    assert inbox.crowd("f", 3, 4) == ("bob", 4), "counted up to that"
    assert inbox.crowd("f", 6, 10) is None
    assert inbox.crowd("g", 1, 10) is None


def test_calls_what_was_tried_and_what_is_late_are_no_crowd(inbox: Inbox) -> None:
    inbox.enter([job("call", source="call"), job("tried"), job("late", deadline=time.time() + 0.05)])
    (tried,) = [one for one in inbox.take("f", 3, ME) if one.key == "tried"]
    others = [one.id for one in inbox.jobs(states=["STARTING"]) if one.id != tried.id]
    inbox.give_back(others, ME, "not now")
    inbox.end([Ending(tried.id, "PENDING", "again", again_in=0.0)], ME)
    inbox.wake()
    time.sleep(0.06)
    assert inbox.runnable("f", 10) == 3
    assert inbox.crowd("f", 1, 10) is None
    assert inbox.take_together("f", "", 10, ME) == []


def test_jobs_of_one_user_are_taken_together_by_priority_and_as_they_came(inbox: Inbox) -> None:
    inbox.enter([job("1", user="ann"), job("2", user="bob"), job("3", user="ann"), job("4", user="ann", priority=1)])
    taken_now = inbox.take_together("f", "ann", 2, ME)
    assert [(one.key, one.state, one.attempts, one.holder) for one in taken_now] == [
        ("4", "STARTING", 1, ME), ("1", "STARTING", 1, ME),
    ]  # fmt: skip
    assert [one.key for one in inbox.take_together("f", "ann", 9, ME)] == ["3"]


def test_a_crowd_is_left_alone_but_for_calls_and_what_was_tried(inbox: Inbox) -> None:
    inbox.enter([job("tried", user="ann"), job("fresh", user="ann"), job("too", user="ann"), job("bob's", user="bob")])
    inbox.enter([job("call", user="ann", source="call")])
    (first,) = inbox.take("f", 1, ME)
    assert first.key == "tried"
    inbox.end([Ending(first.id, "PENDING", "again", again_in=0.0)], ME)
    inbox.wake()
    assert {one.key for one in inbox.take("f", 9, ME, crowd_from=2)} == {"tried", "call", "bob's"}
    assert [one.key for one in inbox.take("f", 9, ME, crowd_from=3)] == ["fresh", "too"], "two are no crowd then"


def test_jobs_under_way_are_adopted_as_they_are(inbox: Inbox) -> None:
    inbox.enter([job("mine"), job("ended"), job("another's"), job("waits")])
    mine, ended, others = inbox.take("f", 3, "gone")
    inbox.end([Ending(ended.id, "SUCCEEDED")], "gone")
    inbox.running([mine.id], "gone", "v1", "in a run")
    inbox.adopt([others.id], ["gone"], "another")
    before = inbox.job(mine.id)
    ids = [one.id for one in inbox.jobs()]
    assert inbox.adopt(ids, ["long gone", "gone"], ME) == [mine.id]
    now = inbox.job(mine.id)
    assert (now.holder, now.state, now.attempts, now.steps, now.reason) == (
        ME, "RUNNING", 1, before.steps, "in a run",
    )  # fmt: skip
    assert inbox.reclaim(ME) == [others.id]
    assert inbox.job(mine.id).state == "RUNNING"


def test_a_job_under_way_may_be_told_what_it_waits_for(inbox: Inbox) -> None:
    inbox.enter([job()])
    (mine,) = inbox.take("f", 1, ME)
    inbox.tell([mine.id], ME, "it waits for the pool")
    assert (inbox.job(mine.id).state, inbox.job(mine.id).reason) == ("STARTING", "it waits for the pool")
    inbox.tell([mine.id], "another", "not its own")
    assert inbox.job(mine.id).reason == "it waits for the pool"
    assert [*inbox.some([mine.id, "0" * 32])] == [mine.id]

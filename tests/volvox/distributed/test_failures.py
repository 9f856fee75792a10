import signal

import pytest

from volvox.distributed.failures import Failure, first, last_words, of_process


def test_the_first_exception_counts_whatever_order_the_processes_are_listed_in() -> None:
    lost = of_process(0, 0, 1, "Traceback (most recent call last):\nRuntimeError: Connection closed by peer\n", at=2.0)
    reason = of_process(1, 2, 1, "Traceback (most recent call last):\nValueError: no such image\n", at=1.0)
    assert first([lost, reason]) is reason
    assert str(reason) == "rank 2 on node 1 ended with exit code 1: ValueError: no such image"


@pytest.mark.parametrize(
    "killed", [Failure("was ended by SIGKILL", 0, 1, -signal.SIGKILL, at=9.0), Failure("is gone", 2, at=9.0)]
)
def test_who_was_killed_counts_before_those_who_complain_of_it(killed) -> None:
    assert first([Failure("RuntimeError: Connection closed by peer", 0, 0, 1, at=1.0), killed]) is killed


def test_a_watchdog_that_aborts_a_process_is_no_reason_of_its_own() -> None:
    aborted, raised = Failure("", 0, 0, -signal.SIGABRT, at=2.0), Failure("", 0, 1, 1, at=1.0)
    assert first([aborted, raised]) is raised


@pytest.mark.parametrize(("code", "exit_code"), [(7, 7), (-9, 137), (-15, 143)])
def test_the_exit_code_is_that_of_a_shell(code, exit_code) -> None:
    assert Failure("", 0, 0, code).exit_code == exit_code


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ("", ""),
        ("no memory left\n\n", "no memory left"),
        (
            "a warning\nTraceback (most recent call last):\n  File x\n    y\nKeyError: 'a'\n[W] goodbye\n",
            "KeyError: 'a'",
        ),
        (
            "Traceback (most recent call last):\n  File x\nKeyError: 1\n\nDuring handling of it:\n\n"
            "Traceback (most recent call last):\n  File y\nRuntimeError: boom\n",
            "RuntimeError: boom",
        ),
    ],
)
def test_the_last_words_are_those_of_the_last_exception(errors, said) -> None:
    assert last_words(errors) == said


def test_another_machine_is_told_how_long_ago_it_was() -> None:
    failure = Failure("was ended by SIGKILL", 1, 3, -9)
    told = Failure.from_json(failure.to_json())
    assert (told.message, told.node, told.rank, told.code) == (failure.message, 1, 3, -9)
    assert told.at == pytest.approx(failure.at, abs=0.5)

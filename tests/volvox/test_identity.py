import os
import subprocess
import sys
from pathlib import Path

from volvox.identity import digest_of, files_digest, process_started, stage_key


def test_equal_values_have_equal_digests_whatever_the_order_of_keys() -> None:
    assert digest_of({"b": 1, "a": [1, 2]}) == digest_of({"a": [1, 2], "b": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])


def test_files_digest_ignores_order_and_times_but_not_names_or_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    before = files_digest(tmp_path, [one, two])
    os.utime(one, (0, 0))
    assert files_digest(tmp_path, [two, one]) == before
    two.write_text("3")
    assert files_digest(tmp_path, [one, two]) != before


def test_every_part_of_a_stage_key_matters() -> None:
    keys = {
        stage_key("training", code="c", inputs=["i"], arguments={"a": 1}),
        stage_key("evaluation", code="c", inputs=["i"], arguments={"a": 1}),
        stage_key("training", code="d", inputs=["i"], arguments={"a": 1}),
        stage_key("training", code="c", inputs=["j"], arguments={"a": 1}),
        stage_key("training", code="c", inputs=["i"], arguments={"a": 2}),
    }
    assert len(keys) == 5


def test_a_process_is_known_by_its_start_and_a_dead_one_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert process_started(child.pid) is not None
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_started(child.pid) is None, "a zombie does not count as running"
    child.wait()
    assert process_started(child.pid) is None

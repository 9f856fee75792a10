from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from volvox.errors import InvalidInput, NotFound
from volvox.functions import registry
from volvox.functions.definition import Function, Input, Output, Resources
from volvox.settings import Home

ONE = Function(name="digits", model="digits", priority=1)
TWO = ONE.model_copy(update={"priority": 2})


def everything(home: Home) -> dict[str, bytes]:
    folder = home.root / "functions"
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else {}


def test_what_is_applied_is_there(home: Home) -> None:
    change = registry.apply(home, ONE, source="/definitions/digits.yaml")
    assert change == registry.Change("digits", "added", ONE.version, "", ())
    found = registry.get(home, "digits")
    assert (found.function, found.version, found.source, found.active) == (
        ONE,
        ONE.version,
        "/definitions/digits.yaml",
        True,
    )
    assert abs(found.applied - time.time()) < 60
    assert registry.functions(home) == {"digits": found}


def test_a_second_time_nothing_changes(home: Home) -> None:
    registry.apply(home, ONE)
    before, stamp = everything(home), registry.stamp(home)
    assert registry.apply(home, ONE, source="elsewhere").kind == "unchanged"
    assert everything(home) == before
    assert registry.stamp(home) == stamp


def test_a_dry_run_says_the_same_and_writes_nothing(home: Home) -> None:
    assert registry.apply(home, ONE, dry_run=True).kind == "added"
    assert everything(home) == {}
    registry.apply(home, ONE)
    before = everything(home)
    assert registry.apply(home, TWO, dry_run=True) == registry.Change(
        "digits", "changed", TWO.version, ONE.version, ("priority",)
    )
    assert registry.remove(home, "digits", dry_run=True).kind == "removed"
    assert everything(home) == before


def test_versions_are_kept_and_any_can_be_active_again(home: Home) -> None:
    registry.apply(home, ONE)
    stamp = registry.stamp(home)
    assert registry.apply(home, TWO).fields == ("priority",)
    assert registry.stamp(home) != stamp
    assert [(each.version, each.active) for each in registry.versions(home, "digits")] == [
        (TWO.version, True),
        (ONE.version, False),
    ]
    back = registry.activate(home, "digits")
    assert back == registry.Change("digits", "activated", ONE.version, TWO.version, ("priority",))
    assert registry.get(home, "digits").function == ONE
    assert registry.activate(home, "digits", dry_run=True).version == TWO.version, "and back again"
    assert registry.activate(home, "digits", ONE.version[:8]).kind == "unchanged"
    assert registry.activate(home, "digits", TWO.version[:8]).kind == "activated"
    assert registry.get(home, "digits", ONE.version[:6]).active is False
    assert registry.apply(home, TWO).kind == "unchanged"


def test_a_version_that_is_not_there_is_told(home: Home) -> None:
    registry.apply(home, ONE)
    with pytest.raises(InvalidInput, match="has had one version only"):
        registry.activate(home, "digits")
    with pytest.raises(
        NotFound, match=f"no version of function 'digits' begins with 'zz'; there are {ONE.version[:12]}"
    ):
        registry.activate(home, "digits", "zz")
    registry.apply(home, TWO)
    with pytest.raises(NotFound, match="no version of function 'digits' begins with 'g'"):
        registry.activate(home, "digits", "g")


def test_a_function_that_is_not_there_is_told_with_the_nearest(home: Home) -> None:
    with pytest.raises(NotFound, match=r"no function 'digits', and no other; `volvox functions apply FILE` makes one"):
        registry.get(home, "digits")
    registry.apply(home, ONE)
    for ask in (registry.get, registry.versions, registry.activate, registry.remove):
        with pytest.raises(NotFound, match="there is no function 'digit', did you mean 'digits'"):
            ask(home, "digit")
        with pytest.raises(NotFound, match=r"there is no function '\.\./digits'"):
            ask(home, "../digits")


def test_a_removed_function_is_gone_and_its_data_is_not(home: Home, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    registry.apply(home, ONE.model_copy(update={"inputs": (Input(url=f"file://{tmp_path}/in"),)}))
    assert registry.remove(home, "digits").kind == "removed"
    assert registry.functions(home) == {}
    assert (tmp_path / "in" / "a.png").is_file()
    assert registry.apply(home, ONE).kind == "added"
    assert len(registry.versions(home, "digits")) == 1


def test_a_loop_through_what_is_there_already_is_refused(home: Home) -> None:
    a = Function(name="a", image="x", inputs=(Input(url="s3://one/in"),), outputs=(Output(url="s3://two/in"),))
    b = Function(name="b", image="x", inputs=(Input(url="s3://two"),), outputs=(Output(url="s3://one/in"),))
    harmless = b.model_copy(update={"outputs": ()})
    registry.apply_all(home, [a, harmless])
    before = everything(home)
    for dry_run in (True, False):
        with pytest.raises(
            InvalidInput, match=r"'b' writes to s3://one/in, which is inside the input s3://one/in of 'a'"
        ):
            registry.apply(home, b, dry_run=dry_run)
    assert everything(home) == before
    with pytest.raises(InvalidInput, match="for ever"):
        registry.apply_all(home, [a, b])
    registry.remove(home, "a")
    registry.apply(home, b)
    registry.apply(home, harmless)
    registry.apply(home, a)
    with pytest.raises(InvalidInput, match="for ever"):
        registry.activate(home, "b")


def test_what_the_metadata_says_is_beside_what_is_stated(home: Home) -> None:
    def fill(home: Home, function: Function) -> Function:
        return function.model_copy(update={"resources": Resources(memory_mb=memory)})

    memory = 512
    registry.apply(home, ONE, fill=fill)
    found = registry.get(home, "digits")
    assert (found.function.resources.memory_mb, found.filled.resources.memory_mb) == (None, 512)
    assert registry.apply(home, ONE, fill=fill).kind == "unchanged"
    memory = 1024
    stamp = registry.stamp(home)
    assert registry.apply(home, ONE, fill=fill) == registry.Change(
        "digits", "changed", ONE.version, ONE.version, ("filled",)
    )
    assert registry.stamp(home) != stamp
    assert registry.get(home, "digits").filled.resources.memory_mb == 1024
    assert len(registry.versions(home, "digits")) == 1


def test_the_catalogue_fills_in_what_a_model_needs(home: Home) -> None:
    entry = home.folder("catalogue", "digits") / "entry.json"
    entry.write_text(
        json.dumps({"metadata": {"version": "3", "resources": {"inference": {"cpu": 1, "memory_MB": 512}}}})
    )
    registry.apply(home, Function(name="a", model="digits/3", resources=Resources(memory_mb=64)))
    registry.apply(home, Function(name="b", model="digits/2"))
    assert registry.get(home, "a").filled.resources == Resources(memory_mb=64, cpu=1.0)
    assert registry.get(home, "b").filled.resources == Resources()


@pytest.mark.parametrize("step", ["_keep", "_point"])
def test_killed_in_the_middle_the_old_state_stays(home: Home, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    registry.apply(home, ONE)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry, step, killed)
        with pytest.raises(KeyboardInterrupt):
            registry.apply(home, TWO)
    assert registry.get(home, "digits").function == ONE
    assert registry.apply(home, TWO).kind == "changed"
    assert registry.get(home, "digits").function == TWO


def test_a_process_that_is_killed_leaves_one_of_the_two(home: Home) -> None:
    script = (
        "import itertools; from volvox.functions import registry; from volvox.functions.definition import Function\n"
        "from volvox.settings import Home; home = Home.current()\n"
        "print(1, flush=True)\n"
        "for n in itertools.count():\n"
        "    registry.apply(home, Function(name='digits', model='digits', priority=1 + n % 2))\n"
    )
    random.seed(5)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert registry.get(home, "digits").function in (ONE, TWO)
    registry.apply(home, ONE.model_copy(update={"priority": 9}))
    assert not list((home.root / "functions").rglob(".incoming-*")), "what was left over is tidied"


def test_two_that_would_loop_together_are_never_both_let_in(home: Home) -> None:
    a = Function(name="a", image="x", inputs=(Input(url="s3://one"),), outputs=(Output(url="s3://two"),))
    b = Function(name="b", image="x", inputs=(Input(url="s3://two"),), outputs=(Output(url="s3://one"),))
    for _ in range(5):
        refused: list[str] = []

        def apply(function: Function, refused: list[str] = refused) -> None:
            try:
                registry.apply(home, function)
            except InvalidInput:
                refused.append(function.name)

        threads = [threading.Thread(target=apply, args=(each,)) for each in (a, b)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        assert len(registry.functions(home)) == 1
        registry.remove(home, next(iter(registry.functions(home))))


def test_a_broken_record_is_told_left_out_and_mended(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    registry.apply(home, ONE)
    registry.apply(home, Function(name="other", model="x"))
    for broken in ("active.json", f"versions/{ONE.version}.json"):
        for text in (
            "{",
            "[]",
            '{"function": {"name": "digits", "model": "x", "colour": 1}, "filled": {}, "version": "x"}',
        ):
            (home.root / "functions" / "digits" / broken).write_text(text)
            assert set(registry.functions(home)) == {"other"}
            assert "apply" in caplog.text
            with pytest.raises(InvalidInput, match="apply"):
                registry.get(home, "digits")
            registry.apply(home, ONE)
            assert registry.get(home, "digits").function == ONE

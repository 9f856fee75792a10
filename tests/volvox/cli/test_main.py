from __future__ import annotations

import errno
import importlib.metadata
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from volvox import __version__
from volvox.cli import main
from volvox.errors import GateRefused, InvalidInput, ModuleFailed, Unavailable

HEAVY = ("torch", "prefect", "mlflow", "rich", "httpx", "pydantic", "numpy", "importlib.metadata", "asyncio")


def volvox(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "volvox", *arguments], capture_output=True, text=True, timeout=120,
        env={**os.environ, **variables},
    )  # fmt: skip


def points() -> dict[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.distribution("volvox").entry_points.select(group=main.GROUP)
    return {point.name: point for point in found}


def test_every_command_is_listed_and_every_listed_one_exists() -> None:
    assert set(points()) == set(main.listed())


@pytest.mark.parametrize("name", sorted(main.listed()))
def test_a_summary_is_what_the_command_says_of_itself(name: str) -> None:
    command = main.load(name)
    assert command.name == name
    assert command.get_short_help_str(limit=300) == main.listed()[name]["summary"]


def test_the_help_page_fits_a_terminal_and_names_every_command() -> None:
    page = volvox("--help").stdout
    assert all(len(line) <= 80 for line in page.splitlines())
    assert all(f"\n  {name} " in page for name in main.listed())


def test_the_help_page_imports_nothing_heavy() -> None:
    code = (
        "import sys; from volvox.cli.main import run; run(['--help'])\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "HEAVY []"


def test_the_help_page_costs_less_than_0_4_seconds_of_cpu() -> None:
    volvox("--help")  # byte code is written
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    volvox("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4


def test_the_version_is_told() -> None:
    assert volvox("--version").stdout == f"volvox {__version__}\n"


def test_an_unknown_command_suggests_the_nearest() -> None:
    done = volvox("cylce")
    assert done.returncode == 2
    assert done.stderr == "error: there is no command 'cylce'; did you mean `volvox cycle`?\n"
    assert volvox("zzz").stderr == "error: there is no command 'zzz'; `volvox --help` lists all\n"


def test_a_wrong_option_is_one_sentence_and_exit_code_2() -> None:
    done = volvox("status", "--nope")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--nope" in done.stderr
    assert "volvox status --help" in done.stderr


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """A command `status` that raises what the test hands it."""

    def use(error: BaseException) -> None:
        def body() -> None:
            raise error

        monkeypatch.setattr(main, "load", lambda _: click.Command("status", callback=body))

    return use


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidInput("the folder is empty"), 2, "error: the folder is empty\n"),
        (GateRefused("0.91 is less than 0.97"), 3, "error: 0.91 is less than 0.97\n"),
        (Unavailable("MLflow does not answer"), 4, "error: MLflow does not answer\n"),
        (ModuleFailed("train() failed", trace="its own trace"), 5, "error: train() failed\n"),
        (KeyboardInterrupt(), 130, "\nstopped; run the same command again to go on\n"),
        (OSError(errno.ENOSPC, "No space left", "/full/x"), 1,
         "error: the disk of /full/x is full; free some space, then run the same command again\n"),
        (ModuleNotFoundError("No module named 'prefect'", name="prefect.flows"), 2,
         "error: this command needs 'prefect', which is not installed; install it with: pip install 'volvox[cycle]'\n"),
        (ZeroDivisionError("division by zero"), 1,
         "error: ZeroDivisionError: division by zero\nrun the same command again with --debug for the trace\n"),
        (ExceptionGroup("many", [InvalidInput("just one")]), 2, "error: just one\n"),
    ],
)  # fmt: skip
def test_an_error_is_told_in_a_sentence_with_its_exit_code(failing, capfd, error, code: int, said: str) -> None:
    failing(error)
    assert main.run(["status"]) == code
    out, err = capfd.readouterr()
    assert (out, err) == ("", said)


def test_a_full_disk_is_found_behind_what_wraps_it(failing, capfd) -> None:
    error = RuntimeError("the run failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    failing(error)
    assert main.run(["status"]) == 1
    assert capfd.readouterr().err.startswith("error: the disk is full; free some space")


@pytest.mark.parametrize("line", [["--debug", "status"], ["status", "--debug"]])
def test_debug_shows_the_trace_before_and_after_the_command(failing, capfd, line: list[str]) -> None:
    failing(ModuleFailed("train() failed", trace="Traceback of the module"))
    assert main.run(line) == 5
    err = capfd.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "Traceback of the module" in err
    assert err.endswith("error: train() failed\n")


def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m volvox status --json | head -c 1", shell=True, capture_output=True, text=True,
        env={**os.environ, "VOLVOX_HOME": str(tmp_path)}, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("{", "")

"""The frame of the command line: finds commands, loads the one that is called, tells errors in a sentence.

Names and summaries come from `volvox/commands.toml`, so the help page imports no command. A command's object is loaded
from its entry point (group `volvox.commands`), because the rooms that bring commands lie above this one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import click

from volvox import __version__
from volvox.cli.failures import failure_of

GROUP = "volvox.commands"


@cache
def listed() -> dict[str, dict[str, str]]:
    """Command name -> `group` and `summary`, in the order of the help page."""
    import tomllib

    return tomllib.loads((Path(__file__).parent.parent / "commands.toml").read_text())


class Commands(click.Group):
    """A group whose commands are known by name and loaded when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(listed())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in listed():
            return None
        command = load(cmd_name)
        if not any(option.name == "debug" for option in command.params):
            command.params.append(_debug_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in listed():
            from difflib import get_close_matches

            near = get_close_matches(name, listed(), n=1)
            hint = f"; did you mean `volvox {near[0]}`?" if near else "; `volvox --help` lists all"
            raise click.UsageError(f"there is no command {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, entry in listed().items():
            groups.setdefault(entry["group"], []).append((name, entry["summary"]))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows, col_spacing=4)


def load(name: str) -> click.Command:
    """The object of the command `name`.

    Raises:
        LookupError: If the installation brings no entry point of this name.
    """
    from importlib.metadata import distribution

    for point in distribution("volvox").entry_points.select(group=GROUP, name=name):
        return point.load()
    raise LookupError(f"command {name!r} is listed but this installation does not bring it; install volvox again")


def _want_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().meta["volvox.debug"] = True


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=_want_debug,
        help="Show the whole trace of an error.",
    )  # fmt: skip


@click.command(
    cls=Commands,
    params=[_debug_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="volvox COMMAND --help says more of a command. State lies in VOLVOX_HOME (default ~/.volvox).",
)
@click.version_option(__version__, prog_name="volvox", message="%(prog)s %(version)s")
def volvox() -> None:
    """From a folder of labelled data to a trained, evaluated, registered, packaged, catalogued, served model."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are told on standard error."""
    return guarded(
        lambda: volvox.main(args=arguments, prog_name="volvox", standalone_mode=False), debug="--debug" in arguments
    )


def guarded(work: Callable[[], Any], *, debug: bool) -> int:
    """Do `work` and return the exit code that its result or its error means; errors are told on standard error."""
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        failure = failure_of(error)
        if debug and failure.traced:
            import traceback

            traceback.print_exception(error)
        if debug and failure.trace:
            click.echo(failure.trace, err=True)
        _say(failure.message, failure.word)
        if failure.traced and not debug and failure.unexpected:
            click.echo("run the same command again with --debug for the trace", err=True)
        return failure.exit_code
    return code if isinstance(code, int) else 0


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script `volvox`."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def _say(message: str, word: str) -> None:
    plain = not sys.stderr.isatty() or bool(os.environ.get("NO_COLOR"))
    styled: dict[str, Any] = {} if plain else {"fg": "red", "bold": True}
    prefix = click.style(f"{word}: ", **styled) if word else ""
    click.echo(prefix + message, err=True, color=None if plain else True)

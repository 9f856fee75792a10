"""`volvox functions invoke`, `warm` and `logs`: what needs the dispatcher."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from volvox.inbox import Job

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the answers instead of the terminal.")
@click.option("--timeout", default=600.0, show_default=True, type=click.FloatRange(0.1), help="Seconds to wait.")
@click.option("--no-wait", is_flag=True, help="Print the jobs' ids and do not wait.")
@_json
def invoke(
    *, name: str, files: tuple[Path, ...], output: Path | None, timeout: float, no_wait: bool, as_json: bool
) -> None:
    """Ask a function about files and print what it answers; `-` reads standard input.

    The files go nowhere else: neither they nor the answers appear in the function's places. A call is a job
    (`volvox jobs`), so it has its turn before the files that wait.

    \b
    Examples:
      volvox functions invoke digits four.png
      volvox functions invoke digits *.png --output answers/
    """  # noqa: D301 - click wants the backspace itself
    from volvox.dispatch import calls
    from volvox.dispatch.telling import as_json as job_json
    from volvox.errors import InvalidInput, Unavailable
    from volvox.inbox import open_inbox
    from volvox.settings import Home

    home = Home.current().ensure()
    calls.function_of(home, name)
    for path in files:
        if str(path) != "-" and not path.is_file():
            raise InvalidInput(f"there is no file {path}")
    _ensure(home)
    inbox = open_inbox(home)
    with contextlib.closing(inbox):
        asked: list[Job] = []
        for path in files:
            handed = calls.place_for(home, "object" if str(path) == "-" else path.name)
            if str(path) == "-":
                handed.path.write_bytes(sys.stdin.buffer.read())
            else:
                shutil.copyfile(path, handed.path)
            asked.append(calls.call(home, inbox, name, handed))
        if no_wait:
            click.echo(json.dumps([job_json(job) for job in asked]) if as_json else "\n".join(job.id for job in asked))
            return
        failed = None
        deadline = time.monotonic() + timeout
        for job in asked:
            try:
                done = calls.ended(inbox, job.id, max(0.0, deadline - time.monotonic()), _teller())
                _answer(calls.answers(home, done), output, job_json(done) if as_json else None)
            except TimeoutError as error:
                raise Unavailable(f"{error} (`volvox jobs show {job.id[:8]}`)") from error
            except Exception as error:  # the others are answered all the same; the first error is told at the end
                failed = failed or error
        if failed:
            raise failed


@click.command()
@click.argument("name")
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0, 10_080), help="How long.")
def warm(name: str, minutes: float) -> None:
    """Keep an instance of a function warm for a while, so that the next file waits for no start.

    --minutes 0 takes that back. What the definition says of `min_scale` and `warm` is kept beside it.
    """
    from volvox.dispatch import calls
    from volvox.dispatch.following import keep_warm
    from volvox.dispatch.state import deployed
    from volvox.settings import Home

    home = Home.current().ensure()
    calls.function_of(home, name)
    keep_warm(home, name, minutes * 60)
    _ensure(home)
    told = next((one for one in deployed(home)["functions"] if one["function"] == name), {})
    seconds = told.get("cold_start_seconds") or 0
    start = f"; a start took {seconds:.2f} s last time" if seconds else ""
    click.echo(f"{name} is kept warm for {minutes:g} min{start}" if minutes else f"{name} is kept warm no longer")


@click.command()
@click.argument("name")
@click.option("--lines", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, the last.")
def logs(name: str, lines: int) -> None:
    """Print what a function's jobs printed last, the oldest first; `volvox jobs log ID` has one job's alone."""
    from volvox.dispatch import calls
    from volvox.dispatch.work import work_of
    from volvox.inbox import open_inbox
    from volvox.settings import Home

    home = Home.current().ensure()
    calls.function_of(home, name)
    found: list[str] = []
    with contextlib.closing(open_inbox(home)) as inbox:
        for job in inbox.jobs(function=name, limit=200):
            with contextlib.suppress(OSError):
                said = work_of(home, job.id).log.read_text(errors="replace").splitlines()
                found = [f"{job.id[:8]}  {line}" for line in said] + found
            if len(found) >= lines:
                break
    click.echo("\n".join(found[-lines:]))


@click.group()
def senders() -> None:
    """Who may send notifications of files to this machine's /events/: buckets of S3, MinIO, Ceph, Onedata, dCache.

    \b
    Examples:
      volvox functions senders add lake-bucket --place s3://lake --function digits
      volvox functions senders list
    """  # noqa: D301 - click wants the backspace itself


@senders.command("add")
@click.argument("name")
@click.option("--function", default="", help="The function that its files are for; default: by their place.")
@click.option("--place", "places", multiple=True, help="What it may speak of, as a URL; several times; default: any.")
@click.option("--topic", "topics", multiple=True, help="ARN of an SNS topic that it may be subscribed by.")
@click.option("--trusted", is_flag=True, help="Believe the user that its notifications name.")
def add_sender(*, name: str, function: str, places: tuple[str, ...], topics: tuple[str, ...], trusted: bool) -> None:
    """Make a token for a sender and print it, once; only its hash is kept."""
    from volvox.dispatch.function_api import SENDERS
    from volvox.events import Sender
    from volvox.events import senders as known
    from volvox.settings import Home

    home = Home.current().ensure()
    sender = Sender(name=name, function=function, places=places, topics=topics, trusted=trusted)
    click.echo(known.add(home.folder("dispatch") / SENDERS, sender))


@senders.command("list")
@_json
def list_senders(as_json: bool) -> None:
    """List the senders; tokens are not known any more."""
    from volvox.dispatch.function_api import SENDERS
    from volvox.events import senders as known
    from volvox.settings import Home

    path = Home.current().root / "dispatch" / SENDERS
    found = known.read(path) if path.exists() else ()
    told = [
        {"name": one.name, "function": one.function, "places": [*one.places], "trusted": one.trusted} for one in found
    ]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told:
        click.echo(f"{one['name']}  {one['function'] or 'any function'}  {', '.join(one['places']) or 'any place'}")


@senders.command("remove")
@click.argument("name")
def remove_sender(name: str) -> None:
    """Accept nothing of this sender any more."""
    from volvox.dispatch.function_api import SENDERS
    from volvox.events import senders as known
    from volvox.settings import Home

    known.remove(Home.current().root / "dispatch" / SENDERS, name)
    click.echo(f"{name} is accepted no more")


def _ensure(home) -> None:  # noqa: ANN001 - a Home, imported late
    """Start the dispatcher where it does not run."""
    from volvox.stack import stack

    stack.ensure(home, ["functions"], tell=lambda text: click.echo(text, err=True))


def _teller():  # noqa: ANN202 - a function of a job
    """Says on a terminal what a call waits for."""
    if not sys.stderr.isatty():
        return lambda _: None

    def tell(job: Job) -> None:
        click.echo(f"\r\033[K{job.key.rpartition('/')[2]}: {job.state.lower()} {job.reason}", nl=False, err=True)
        if job.ended:
            click.echo("\r\033[K", nl=False, err=True)

    return tell


def _answer(paths: list[Path], output: Path | None, told: dict | None) -> None:
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copyfile(path, output / path.name)
            click.echo(str(output / path.name))
        return
    if told is not None:
        click.echo(json.dumps({**told, "answers": [str(path) for path in paths]}))
        return
    for path in paths:
        click.echo(path.read_bytes())

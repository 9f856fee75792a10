"""`volvox jobs`: the jobs of functions, and the predictions and trainings of the model server, by the same words."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volvox.serving import job_commands as of_server

if TYPE_CHECKING:
    from volvox.inbox import Inbox, Job

_STATES = click.Choice(
    ["pending", "runnable", "starting", "running", "succeeded", "failed", "cancelled"], case_sensitive=False
)
_LOOK_SECONDS = 0.1
_url = click.option("--url", envvar="VOLVOX_SERVER", help="Ask this model server about its own jobs instead.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_id = click.argument("job_id", metavar="ID")


@click.group()
def jobs() -> None:
    """List, follow, retry and cancel jobs: those of functions, and those of the model server.

    A function's job is one file that landed in its input place. ID is what `volvox jobs list` prints first; eight
    digits of it are enough.

    \b
    Examples:
      volvox jobs list --function digits --state failed
      volvox jobs show 1a2b3c4d
      volvox jobs log -f 1a2b3c4d
      volvox jobs watch --function digits
      volvox jobs retry 1a2b3c4d
    """  # noqa: D301 - click wants the backspace itself


@jobs.command("list")
@click.option("--function", default="", help="Only those of this function.")
@click.option("--model", default="", help="Only those of this model of the server.")
@click.option("--state", "states", multiple=True, type=_STATES, help="Only those in this state; several times: or.")
@click.option("--user", help="Only those of this user.")
@click.option("--key", default="", help="Only those whose file's name holds this text.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many, the newest.")
@_url
@_json
@click.pass_context
def list_jobs(
    context: click.Context,
    *,
    function: str,
    model: str,
    states: tuple[str, ...],
    user: str | None,
    key: str,
    limit: int,
    url: str | None,
    as_json: bool,
) -> None:
    """List jobs, the newest first: those of functions, then those of the model server."""
    if url or model:
        state = states[0] if states else None
        context.invoke(of_server.list_jobs, model=model, state=state, limit=limit, url=url, as_json=as_json)
        return
    from volvox.dispatch.telling import as_json as job_json

    with _inbox() as inbox:
        wanted = [state.upper() for state in states if state != "cancelled"]
        found: list[Job] = []
        if wanted or not states:
            found = inbox.jobs(function=function, states=wanted, user=user, key=key, limit=limit)  # pyright: ignore[reportArgumentType]
    told = [job_json(job) for job in found]
    if not function and user is None and not key:
        told += _of_server(states, limit)
    _print_list(told, as_json)


@jobs.command()
@_id
@_url
@_json
@click.pass_context
def show(context: click.Context, job_id: str, url: str | None, as_json: bool) -> None:
    """Show a job: its states with times, why it waits or failed, what it wrote."""
    with _inbox() as inbox:
        job = _known(inbox, job_id, url)
        if job is not None:
            _show(inbox, job, as_json)
            return
    context.invoke(of_server.show, uuid=job_id, url=url, as_json=as_json)


@jobs.command()
@_id
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@_url
@_json
@click.pass_context
def log(context: click.Context, job_id: str, follow: bool, url: str | None, as_json: bool) -> None:
    """Print what a job printed."""
    with _inbox() as inbox:
        job = _known(inbox, job_id, url)
        if job is not None:
            _log(inbox, job, follow)
            return
    context.invoke(of_server.log, uuid=job_id, follow=follow, url=url, as_json=as_json)


@jobs.command()
@_id
def retry(job_id: str) -> None:
    """Let a function's job that failed run again."""
    with _inbox() as inbox:
        job = inbox.retry(inbox.job(job_id).id, by=_me())
        click.echo(f"{job.id[:8]}  {job.state}  {job.reason}")


@jobs.command()
@_id
@_url
@_json
@click.pass_context
def cancel(context: click.Context, job_id: str, url: str | None, as_json: bool) -> None:
    """End a job: one that waits at once, one that runs by its dispatcher."""
    with _inbox() as inbox:
        job = _known(inbox, job_id, url)
        if job is not None:
            job = inbox.cancel(job.id, by=_me())
            click.echo(f"{job.id[:8]}  {job.state}  {job.reason or 'it is being ended'}")
            return
    context.invoke(of_server.cancel, uuid=job_id, url=url, as_json=as_json)


@jobs.command()
@_id
@click.option("--output", type=click.Path(path_type=Path), help="File for it instead of the terminal.")
@_url
@click.pass_context
def result(context: click.Context, job_id: str, output: Path | None, url: str | None) -> None:
    """Print what a job answered, or where its answers are."""
    from volvox.dispatch.work import work_of
    from volvox.errors import NotFound
    from volvox.settings import Home

    with _inbox() as inbox:
        job = _known(inbox, job_id, url)
    if job is None:
        context.invoke(of_server.result, uuid=job_id, output=output, url=url)
        return
    if job.state != "SUCCEEDED":
        raise NotFound(f"job {job.id[:8]} is {job.state}: {job.reason or 'it has no answer yet'}")
    for one in job.outputs:
        if one["url"]:
            click.echo(f"{one['url'].rstrip('/')}/{one['key']}")
            continue
        content = (work_of(Home.current(), job.id).kept / one["key"]).read_bytes()
        if output:
            output.write_bytes(content)
        else:
            click.echo(content)


@jobs.command()
@click.option("--function", default="", help="Only those of this function.")
@_json
def watch(function: str, as_json: bool) -> None:
    """Print every change of a job as it happens, until Ctrl-C."""
    from volvox.dispatch.telling import as_json as job_json
    from volvox.dispatch.telling import why_it_waits

    with _inbox() as inbox, contextlib.suppress(KeyboardInterrupt):
        after = inbox.last_change()
        while True:
            for job in inbox.changes(after):
                after = job.change
                if function and job.function != function:
                    continue
                if as_json:
                    click.echo(json.dumps(job_json(job), ensure_ascii=False))
                else:
                    click.echo(f"{_clock(job.steps[-1].time)}  {_line(job, why_it_waits(inbox, job))}")
            time.sleep(_LOOK_SECONDS)


# -- inside ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _inbox() -> Iterator[Inbox]:
    from volvox.inbox import open_inbox
    from volvox.settings import Home

    inbox = open_inbox(Home.current().ensure())
    try:
        yield inbox
    finally:
        inbox.close()


def _known(inbox: Inbox, job_id: str, url: str | None) -> Job | None:
    """A function's job, or None if it is for the server to say."""
    from volvox.errors import NotFound

    if url:
        return None
    try:
        return inbox.job(job_id)
    except NotFound:
        if len(job_id) < 32:  # the server's jobs are asked for by all of their 32 digits
            raise
        return None


def _of_server(states: tuple[str, ...], limit: int) -> list[dict[str, Any]]:
    """The server's own jobs, if it answers; it knows one state at a time."""
    from volvox.errors import VolvoxError

    if len(states) > 1 or set(states) & {"runnable", "starting"}:
        return []
    asked = {"state": states[0] if states else "", "limit": str(min(limit, 1000))}
    try:
        with of_server.reached(None) as server:
            return server.get("/v2/jobs/", params=asked).json()["jobs"]
    except (VolvoxError, OSError, ValueError, LookupError):  # it need not run: functions have a dispatcher of their own
        return []


def _print_list(told: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for job in told:
        if "uuid" in job:
            click.echo(f"{job['uuid']}  {job['state']:<9}  {job['kind']} of {job['model']}")
        else:
            why = f"  {job['reason']}" if job["reason"] else ""
            click.echo(f"{job['id'][:8]}  {job['state']:<9}  {job['function']}  {job['key']}{why}")
    if not told:
        click.echo("there are no such jobs", err=True)


def _show(inbox: Inbox, job: Job, as_json: bool) -> None:
    from volvox.dispatch.state import trouble
    from volvox.dispatch.telling import as_json as job_json
    from volvox.dispatch.telling import why_it_waits
    from volvox.settings import Home

    told = {**job_json(job), "reason": why_it_waits(inbox, job, trouble(Home.current(), job.function))}
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    click.echo(f"{job.id}  {_line(job, told['reason'])}")
    click.echo(
        f"  of       {job.place.rstrip('/')}/{job.key}  ({job.size:,} bytes{f', of {job.user}' if job.user else ''})"
    )
    for step in job.steps:
        click.echo(f"  {_clock(step.time)}  {step.state:<9}{f'  {step.reason}' if step.reason else ''}")
    for one in job.outputs:
        where = f"{one['url'].rstrip('/')}/{one['key']}" if one["url"] else f"volvox jobs result {job.id[:8]}"
        click.echo(f"  wrote    {where}  ({one['size']:,} bytes)")
    took = "" if told["ran_seconds"] is None else f", ran {told['ran_seconds']:.3f} s"
    if job.foreseen:
        before = job.foreseen
        click.echo(
            f"  foreseen: wait {before['wait_seconds']:.3f} s, run {before['run_seconds']:.3f} s"
            f"{_price(before['cost'], before['currency'])} ({before['said']})"
        )
    cost = _price(told["cost"], told["currency"])
    click.echo(f"  waited {told['waited_seconds']:.3f} s{took}{cost}, attempt {job.attempts}")


def _price(cost: float | None, currency: str) -> str:
    """A cost as it goes on after a comma; nothing where it is not known."""
    return "" if cost is None else f", cost {cost:.6f} {currency}".rstrip() if cost else ", cost nothing"


def _log(inbox: Inbox, job: Job, follow: bool) -> None:
    from volvox.dispatch.work import work_of
    from volvox.inbox import ENDED
    from volvox.settings import Home

    path, position = work_of(Home.current(), job.id).log, 0
    while True:
        now = inbox.job(job.id)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
            stream.seek(position)
            piece = stream.read()
            position += len(piece)
            click.echo(piece, nl=False)
        if not follow or now.state in ENDED:
            return
        time.sleep(_LOOK_SECONDS)


def _line(job: Job, reason: str) -> str:
    return f"{job.id[:8]}  {job.state:<9}  {job.function}  {job.key}{f'  {reason}' if reason else ''}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _me() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return ""

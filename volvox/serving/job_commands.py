"""`volvox jobs`: look at the jobs of a server, follow one, take its result, cancel it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import httpx

_PATIENCE_SECONDS = 30.0
_STATES = click.Choice(["pending", "running", "succeeded", "failed", "cancelled"], case_sensitive=False)
_url = click.option("--url", envvar="VOLVOX_SERVER", help="The server (default: VOLVOX_SERVER, else this machine's).")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def jobs() -> None:
    """List, follow and cancel predictions and trainings that run on their own."""


@jobs.command("list")
@click.option("--model", default="", help="Only those of this model.")
@click.option("--state", type=_STATES, help="Only those in this state.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many, the newest.")
@_url
@_json
def list_jobs(model: str, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List jobs, the newest first."""
    asked = {"model": model, "state": state or "", "limit": str(limit)}
    with reached(url) as server:
        found = _told(server.get("/v2/jobs/", params=asked)).json()["jobs"]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for job in found:
        click.echo(f"{job['uuid']}  {job['kind']:<7}  {job['model']}  {_state(job)}")
    if not found:
        click.echo("there are no such jobs", err=True)


@jobs.command()
@click.argument("uuid")
@_url
@_json
def show(uuid: str, url: str | None, as_json: bool) -> None:
    """Show a job: its state, why, since when."""
    with reached(url) as server:
        _show(_told(server.get(f"/v2/jobs/{uuid}")).json(), as_json)


@jobs.command()
@click.argument("uuid")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has finished.")
@_url
@_json
def log(uuid: str, follow: bool, url: str | None, as_json: bool) -> None:
    """Print what a job printed; with --json, which follows too, one event a line."""
    with reached(url) as server:
        if not follow and not as_json:
            with server.stream("GET", f"/v2/jobs/{uuid}/log") as answer:
                _told(answer)
                for piece in answer.iter_text():
                    click.echo(piece, nl=False)
            return
        for kind, data in _events(server, f"/v2/jobs/{uuid}/log"):
            if as_json:
                told = data if kind == "log" else json.loads(data)
                click.echo(json.dumps({"event": kind, "data": told}, ensure_ascii=False))
            elif kind == "log":
                click.echo(data)
            elif kind == "progress":
                click.echo(_step(json.loads(data)), err=True)
            else:
                change = json.loads(data)
                click.echo(": ".join(filter(None, (change["state"], change["reason"]))), err=True)


@jobs.command()
@click.argument("uuid")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File for it instead of the terminal.")
@_url
def result(uuid: str, output: Path | None, url: str | None) -> None:
    """Print what a job answered, or write it to a file."""
    with reached(url) as server, server.stream("GET", f"/v2/jobs/{uuid}/result") as answer:
        _told(answer)
        if output is None:
            stream = sys.stdout.buffer
            for piece in answer.iter_bytes():
                stream.write(piece)
            if answer.headers["content-type"].startswith("application/json"):
                stream.write(b"\n")
            return
        temporary = output.with_name(f".{output.name}.part")
        with temporary.open("wb") as file:
            for piece in answer.iter_bytes():
                file.write(piece)
        temporary.replace(output)


@jobs.command()
@click.argument("uuid")
@_url
@_json
def cancel(uuid: str, url: str | None, as_json: bool) -> None:
    """Cancel a job that waits or runs; nothing of it runs any more when this returns."""
    from volvox.errors import InvalidInput

    with reached(url) as server:
        job = _told(server.get(f"/v2/jobs/{uuid}")).json()
        if job["state"] not in ("PENDING", "RUNNING"):  # the server would remove it
            raise InvalidInput(f"job {uuid} cannot be cancelled: it is {job['state']} already")
        _show(_told(server.delete(f"/v2/jobs/{uuid}")).json(), as_json)


@contextmanager
def reached(url: str | None) -> Iterator[httpx.Client]:
    """A client of the server at `url`, or of this machine's; raises Unavailable if it does not answer."""
    import httpx

    from volvox.errors import Unavailable

    if not url:
        from volvox.serving.opening import addresses
        from volvox.settings import Home

        url = addresses(Home.current().root).get("web")
    if not url:
        raise Unavailable("no server of this machine is known; `volvox up` starts it, or give --url")
    try:
        with httpx.Client(base_url=url.rstrip("/"), timeout=_PATIENCE_SECONDS) as server:
            yield server
    except httpx.TransportError as error:
        raise Unavailable(f"the server at {url} does not answer ({error or type(error).__name__})") from error


def _told(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is one; its body is read only where it is an error."""
    from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError

    if answer.is_success:
        return answer
    answer.read()
    errors: dict[int, type[VolvoxError]] = {404: NotFound, 409: Unavailable, 422: InvalidInput, 503: Unavailable}
    message = answer.text.removeprefix(f"{answer.status_code}: ")
    raise errors.get(answer.status_code, VolvoxError)(message)


def _events(server: httpx.Client, path: str) -> Iterator[tuple[str, str]]:
    """The events of a job until it has finished; a connection that breaks is made again where it broke."""
    import time

    import httpx

    last, failures = "", 0
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        try:
            with server.stream("GET", path, headers=headers) as answer:
                if _told(answer).status_code == 204:
                    return
                kind = data = ""
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "id":
                        last, failures = value, 0
                    elif name == "event":
                        kind = value
                    elif name.rstrip(":") == "data":
                        data = value
                    elif not line and kind:
                        yield kind, data
                        kind = data = ""
        except httpx.TransportError:
            failures += 1
            if failures > 5:
                raise
            time.sleep(1.0)


def _show(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(job, indent=2, ensure_ascii=False))
        return
    click.echo(f"{job['uuid']}  {job['kind']} of {job['model']}  {_state(job)}")
    for name in ("created", "started", "finished"):
        if job[name]:
            click.echo(f"{name:<9}{job[name]}")


def _state(job: dict[str, Any]) -> str:
    progress = _step(job["progress"]) if job["progress"] and job["state"] == "RUNNING" else ""
    return "  ".join(filter(None, (job["state"], progress, job["reason"])))


def _step(told: dict[str, Any]) -> str:
    done = f"{told['done']}/{told['total']}" if told["total"] is not None else str(told["done"])
    metrics = ", ".join(f"{name} {value}" for name, value in (told.get("metrics") or {}).items())
    return "  ".join(filter(None, (f"{done} {told['unit']}".strip(), metrics)))

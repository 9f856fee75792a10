"""Commands of the stack: typed and thin; what is heavy is imported when it is needed."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from volvox.settings import Home

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@_json
def up(as_json: bool) -> None:
    """Start what this machine needs, and say where it is.

    Prefect, MLflow, one worker and the web server of models and catalogue pages, detached and on 127.0.0.1 only. What
    runs already is left alone; an address in PREFECT_API_URL, MLFLOW_TRACKING_URI or VOLVOX_WEB_URL replaces that
    service. VOLVOX_PREFECT_PORT, VOLVOX_MLFLOW_PORT and VOLVOX_WEB_PORT choose ports.
    """
    from volvox.stack import stack

    home = Home.current().ensure()
    told = (lambda _: None) if as_json else (lambda text: click.echo(text, err=True))
    started = stack.ensure(home, tell=told)
    with _waiting(as_json) as say:
        for name in started:
            say(name)
            stack.wait_ready(home, name)
    _show(home, as_json)


@click.command()
@_json
def down(as_json: bool) -> None:
    """End exactly what was started here.

    Every process of this home's stack ends, and what its runs have on Docker, Kubernetes or ECS, since that could tell
    nobody how it went. Nothing else ends: data, models and runs stay, and `volvox up` goes on with them.
    """
    from volvox.stack import stack

    home = Home.current()
    ended = stack.stop(home, ["worker"])  # before what it started, or it would start more
    from deployments.ending import end_jobs

    jobs = end_jobs(home)
    if not as_json:
        for job in jobs.jobs:
            click.echo(f"ended {job}")
        for problem in jobs.problems:
            click.echo(problem, err=True)
    ended += stack.stop(home)
    if as_json:
        click.echo(json.dumps({"ended": ended, "jobs": jobs.jobs, "problems": jobs.problems}))
    else:
        click.echo(f"ended {', '.join(ended)}" if ended else "nothing was running")


@click.command()
@_json
def status(as_json: bool) -> None:
    """Show what runs, where, since when and how large."""
    _show(Home.current(), as_json)


@click.command()
@_json
def apply(as_json: bool) -> None:
    """Make the Prefect server match this installation.

    Work pools, deployments, schedules and automations of this installation are created or brought up to date; what
    others made, and what an operator paused or resumed, stays. A second run changes nothing.
    """
    import asyncio
    import os

    from volvox.stack import stack

    home = Home.current().ensure()
    stack.ensure(home, ["prefect"], tell=lambda text: click.echo(text, err=True))
    os.environ.update(stack.environment(home))  # before Prefect is imported: it reads its settings then
    stack.wait_ready(home, "prefect")
    from deployments.apply import apply as make_match

    changes = asyncio.run(make_match(os.environ["PREFECT_API_URL"]))
    if as_json:
        click.echo(json.dumps({"changes": changes}))
    else:
        click.echo("\n".join(changes) or "nothing to change")


def _show(home: Home, as_json: bool) -> None:
    from volvox.stack import stack

    found = stack.status(home)
    if as_json:
        click.echo(json.dumps({"home": str(home.root), "services": [asdict(one) for one in found]}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    colours = {"ready": "green", "external": "green", "starting": "yellow", "died": "red", "stopped": "dim"}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("service", "state", "address", "pid", "since", "memory"):
        table.add_column(title, justify="right" if title in ("pid", "memory") else "left", no_wrap=title != "address")
    for one in found:
        table.add_row(
            one.title, f"[{colours[one.state]}]{one.state}[/]", one.url or "-", str(one.pid or "-"),
            one.since[:19].replace("T", " ") or "-", f"{one.memory_bytes / 2**20:.0f} MB" if one.memory_bytes else "-",
        )  # fmt: skip
    console = Console(width=max(Console().width, 100) if not Console().is_terminal else None)
    console.print(table)
    for one in found:
        if one.state == "died":
            console.print(f"{one.title} died; its log is {one.log}", style="red")


def _waiting(quiet: bool):  # noqa: ANN202 - a context manager of a function
    from contextlib import contextmanager

    @contextmanager
    def showing():  # noqa: ANN202
        from rich.console import Console

        console = Console(stderr=True)
        if quiet or not console.is_terminal:
            yield lambda _: None
            return
        with console.status("starting") as spinner:
            yield lambda name: spinner.update(f"waiting for {name}")

    return showing()

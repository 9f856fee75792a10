"""`volvox pools`: the work pools, what is true of them, and what is missing of one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from volvox.errors import InvalidInput, VolvoxError
from volvox.settings import Home

if TYPE_CHECKING:
    from volvox.pools.definition import PoolDefinition
    from volvox.pools.placement import PoolState

_MISSING = 4
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_dry_run = click.option("--dry-run", is_flag=True, help="Print the file that would be written, and write nothing.")


@click.group(invoke_without_command=True)
@_json
@click.pass_context
def pools(context: click.Context, as_json: bool) -> None:
    """Show the work pools, check one, switch them on and off."""
    if context.invoked_subcommand is not None:
        return
    found = _pools(Home.current())
    states, trouble = _states(found)
    if as_json:
        from volvox.pools.table import as_values

        told = [as_values(pool, states.get(name)) for name, pool in found.items()]
        click.echo(json.dumps({"pools": told, "prefect": trouble or "ok"}, indent=2))
        return
    _table(found, states)
    if trouble:
        click.echo(trouble, err=True)


@pools.command()
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show everything about one pool."""
    from volvox.pools.files import known_pool, pool_paths
    from volvox.pools.needs import Needs
    from volvox.pools.placement import candidates
    from volvox.pools.table import as_values, page

    home = Home.current()
    found = _pools(home)
    pool = known_pool(name, found)
    states, trouble = _states({name: pool})
    if as_json:
        click.echo(json.dumps(as_values(pool, states.get(name)), indent=2))
        return
    [seen] = candidates(Needs(), {name: pool}, states)
    why = trouble if trouble and pool.enabled else seen.down
    click.echo(page(pool, states.get(name), str(pool_paths(home)[name]), {"": why} if why else {}))


@pools.command()
@click.argument("name")
@click.option("--module", default="image_classifier", show_default=True,
              help="Whose training image is looked for, where the pool's file names none.")  # fmt: skip
@click.option("--no-probe", is_flag=True, help="Start no job to try the way back from inside.")
@_json
def check(name: str, module: str, no_probe: bool, as_json: bool) -> None:
    """Find out what is missing of a pool, and how to mend it, before a run fails on it.

    Its file, the job template, the engine and its rights, the image, the work pool and its worker, GPUs; then one job
    on that engine asks Prefect, MLflow and the store from inside. Exit code 4 if something is missing.
    """
    from volvox.stack import stack

    home = Home.current()
    os.environ.update(stack.environment(home))  # before Prefect is imported: it reads its settings then
    from deployments.checks import check_pool

    checks: list[Any] = []

    def tell(one: Any) -> None:
        checks.append(one)
        if not as_json:
            click.echo(one.line())

    asyncio.run(check_pool(name, home, tell, module=module, probe=not no_probe))
    missing = [one for one in checks if one.ok is False]
    if as_json:
        click.echo(json.dumps({"pool": name, "ok": not missing, "checks": [one.values() for one in checks]}, indent=2))
    else:
        click.echo(f"{len(missing)} of {len(checks)} are missing" if missing else f"pool {name!r} is ready")
    if missing:
        sys.exit(_MISSING)


@pools.command()
@click.argument("name")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="A value of the pool's file, e.g. offers.gpus=1; may be given several times.")  # fmt: skip
@click.option("--like", default="", metavar="POOL", help="Begin a new pool as a copy of this one.")
@_dry_run
@_json
def enable(name: str, changes: tuple[str, ...], like: str, dry_run: bool, as_json: bool) -> None:
    """Switch a pool on: write its file to VOLVOX_HOME/pools.

    \b
    Examples:
      volvox pools enable docker --set offers.memory_mb=8000
      volvox pools enable kubernetes-gpu --like kubernetes --set offers.gpus=1 --set cost_per_hour=0.9
    """  # noqa: D301 - click wants the backspace itself
    from volvox.pools import files

    wanted = dict(map(_setting, changes))
    _tell_change(files.enable(Home.current(), name, wanted, like=like, dry_run=dry_run), dry_run, as_json)


@pools.command()
@click.argument("name")
@_dry_run
@_json
def disable(name: str, dry_run: bool, as_json: bool) -> None:
    """Switch a pool off; what its file says stays."""
    from volvox.pools import files

    _tell_change(files.disable(Home.current(), name, dry_run=dry_run), dry_run, as_json)


def _pools(home: Home) -> dict[str, PoolDefinition]:
    from volvox.pools.files import read_pools
    from volvox.pools.machine import filled, this_machine

    machine = this_machine()
    return {name: filled(pool, machine) for name, pool in read_pools(home).items()}


def _states(found: dict[str, PoolDefinition]) -> tuple[dict[str, PoolState], str]:
    """What the Prefect server says of the pools that are on, and why it says nothing where it does not."""
    from volvox.pools.states import states_at
    from volvox.stack.state import addresses

    wanted = [name for name, pool in found.items() if pool.enabled]
    url = addresses(Home.current()).get("prefect", "")
    if not url:
        return {}, "no Prefect server runs, so nobody knows the pools' state; `volvox up` starts one"
    try:
        return asyncio.run(states_at(f"{url.removesuffix('/api')}/api", wanted)), ""
    except VolvoxError as error:
        return {}, str(error)


def _table(found: dict[str, PoolDefinition], states: dict[str, PoolState]) -> None:
    from rich.console import Console
    from rich.table import Table

    from volvox.pools.table import row

    colours = {"online": "green", "off": "dim", "unknown": "yellow"}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("pool", "type", "state", "queue", "free", "offers", "cost/h", "image"):
        table.add_column(title, justify="right" if title in ("queue", "cost/h") else "left", overflow="fold")
    for name, pool in found.items():
        name_, kind, state, *rest = row(pool, states.get(name))
        table.add_row(name_, kind, f"[{colours.get(state, 'red')}]{state}[/]", *rest)
    Console(width=max(Console().width, 110) if not Console().is_terminal else None).print(table)


def _setting(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidInput(f"--set {text!r} is not KEY=VALUE, for example --set offers.gpus=1")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InvalidInput(f"--set {key.strip()}: {value!r} is not a value of YAML; put it in quotes") from error


def _tell_change(change: Any, dry_run: bool, as_json: bool) -> None:
    if as_json:
        told = {"file": str(change.path), "changed": change.changed, "written": change.changed and not dry_run}
        click.echo(json.dumps({**told, "pool": change.pool.model_dump(mode="json")}, indent=2))
        return
    if dry_run:
        click.echo(change.text, nl=False)
        return
    name = change.pool.name
    if not change.changed:
        click.echo(f"pool {name!r} is {'on' if change.pool.enabled else 'off'} already; nothing to change")
        return
    click.echo(f"wrote {change.path}")
    if change.pool.enabled:
        click.echo(f"next: `volvox pools check {name}`, then `volvox apply`")
    else:
        click.echo("next: `volvox apply`")

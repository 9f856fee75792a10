"""`volvox nodes`: the nodes that functions run on, what is at work there, and why they are on."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def nodes(*, as_json: bool) -> None:
    """Show the nodes that functions run on, what is at work there, and why they are on.

    A group is a file VOLVOX_HOME/nodes/NAME.yaml. The dispatcher (`volvox up`) starts and stops its nodes by the same
    policy that `volvox simulate` plays.

    \b
    workers.yaml, where only runtime and one of the last two must be there:
      runtime: kubernetes       # functions of this runtime
      functions: [frames]       # only these
      least: 0
      most: 4
      slots: 2                  # instances on one node
      idle_seconds: 300         # stopped after so long
      boot_seconds: 120         # until one was seen
      cost_per_hour: 0.224
      command:                  # the node's name is added
        list: [/opt/cloud, list]  # NAME STATE INSTANCES
        start: [/opt/cloud, start]
        stop: [/opt/cloud, stop]
      auto_scaling_group: {name: workers, region: eu-central-1}
    """  # noqa: D301 - click wants the backspace itself
    from volvox.errors import VolvoxError
    from volvox.nodes.telling import TITLES, groups_as_json, heading, row
    from volvox.settings import Home

    try:
        found = groups_as_json(Home.current())
    except (OSError, ValueError) as error:
        raise VolvoxError(f"what is kept of the nodes cannot be read: {error}") from error
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("there is no node group; docs/elasticity.md shows the file of one")
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 1000, markup=False, highlight=False)
    for group in found:
        click.echo(heading(group))
        if group["trouble"]:
            click.echo(f"  {group['trouble']}")
        if not group["nodes"]:
            click.echo("  no node is on")
            continue
        table = Table(*TITLES, box=None, header_style="bold")
        for node in group["nodes"]:
            table.add_row(*row(node))
        console.print(table)

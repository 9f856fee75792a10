"""`volvox simulate`: what a number of jobs would take and cost, before anything is paid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volvox.errors import InvalidInput

if TYPE_CHECKING:
    from volvox.elasticity.result import Result

_POLICIES = ("needed", "eager", "always")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--paper", is_flag=True, help="Play the experiments of the gateway's paper (its Tables 1 and 2) again.")
@click.option("--policy", "policies", multiple=True, type=click.Choice(_POLICIES), metavar="POLICY",
              help="Only this policy for nodes: needed (ours), eager, always; several times. Default: all, the file's "
                   "first.")  # fmt: skip
@click.option("--jobs", "each", is_flag=True, help="List every job of the first policy too.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png",
              help="Draw what each node did, what waited and how many nodes were on.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(
    *, file: Path | None, paper: bool, policies: tuple[str, ...], each: bool, picture: Path | None, as_json: bool
) -> None:
    """Say what jobs would take and cost on nodes that start and stop.

    FILE says in YAML when jobs come and how long they run, and what instances, nodes and prices there are. The policy
    that decides about instances and nodes is the one that runs functions. The same file gives the same result.

    \b
    Examples:
      volvox simulate --paper
      volvox simulate evening.yaml --plot evening.png

    \b
    evening.yaml, where every key but jobs may be left out:
      jobs:                   # or csv: FILE with run_seconds, at_seconds
        count: 200            # or at_seconds: [0, 0, 60]
        per_hour: 120         # at random; without it all at once
        seed: 7
        run_seconds: 23.6     # or a list, one for each
      image: {pull_seconds: 44, prefetched: false}
      instances:
        kept: true            # warm for the next job; false: one each
        start_seconds: 2
        between_seconds: 0    # from one job to the next
        min: 0
        max: 8
        idle_seconds: 300
        expected_seconds: 20  # else the mean; 0: is learned
      nodes:                  # none: room for all, as AWS Lambda
        min: 0
        max: 4
        at_start: 1
        slots: 2              # instances on one node
        boot_seconds: 300
        idle_seconds: 180
        policy: needed        # or eager, always
      prices: {node_hour: 0.224, gb_second: 0, request: 0,
               memory_mb: 0, currency: USD}
    """  # noqa: D301 - click wants the backspace itself
    if paper == (file is not None):
        raise InvalidInput("give a file, or --paper" + (", not both" if paper else "; `--help` shows a file"))
    if picture is not None and picture.suffix.lower() != ".png":
        raise InvalidInput(f"--plot {picture}: a picture is a PNG file; name it {picture.with_suffix('.png')}")
    if paper and (policies or each):
        raise InvalidInput("--paper replays what was done and what ours would do; --policy and --jobs go with a file")
    found, told = _of_paper(as_json) if paper else _of_file(file or Path(), policies, each, as_json)
    if picture is not None:
        from volvox.elasticity.plots import plot

        plot(found, picture)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    elif picture is not None:
        click.echo(f"drew {picture}")


def _of_file(file: Path, policies: tuple[str, ...], each: bool, as_json: bool) -> tuple[list[Result], dict[str, Any]]:
    from volvox.elasticity.reading import read
    from volvox.elasticity.simulation import simulate as play
    from volvox.elasticity.table import jobs_page, policies_page

    scenario = read(file)
    if scenario.nodes is None:
        if policies:
            raise InvalidInput(f"--policy decides about nodes, and {file} has none; add nodes: {{max: 2}}")
        found = [play(scenario)]
    else:
        order = policies or (scenario.nodes.policy, *(one for one in _POLICIES if one != scenario.nodes.policy))
        found = [play(scenario, one) for one in dict.fromkeys(order)]  # pyright: ignore[reportArgumentType]
    if not as_json:
        click.echo(f"{scenario.name}: {len(scenario.work)} jobs, {scenario.mean_run_seconds:g} s each on average")
        table, notes = policies_page(found)
        _print(table, notes)
        if each:
            _print(jobs_page(found[0]))
    told: dict[str, Any] = {"name": scenario.name, "simulations": [one.values() for one in found]}
    if each:
        told["jobs"] = [
            {"at_seconds": job.came, "begun": job.begun, "ended": job.ended, "wait_seconds": round(job.wait_seconds, 6),
             "node": job.node} for job in found[0].jobs
        ]  # fmt: skip
    return found, told


def _of_paper(as_json: bool) -> tuple[list[Result], dict[str, Any]]:
    from volvox.elasticity import paper
    from volvox.elasticity.table import paper_page

    replays = paper.replays()
    if not as_json:
        table, notes = paper_page(replays, paper.gains())
        _print(table, notes)
    return [result for one in replays for result in (one.replayed, one.needed)], paper.values() if as_json else {}


def _print(table: Any, notes: list[str] | None = None) -> None:
    from rich.console import Console

    Console(width=None if Console().is_terminal else 1000, markup=False, highlight=False).print(table)
    for note in notes or []:
        click.echo(note)

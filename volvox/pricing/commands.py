"""`volvox prices`: what counts when a function is placed and a job is billed."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prices(as_json: bool) -> None:
    """What calls cost where, since when, and what the gateway's paper prints wrongly.

    VOLVOX_HOME/prices.yaml replaces single prices under the same keys; an hour on machines of your own stands in the
    file of their pool. `volvox functions check FILE` says what a function would cost on each runtime.

    \b
    Example of VOLVOX_HOME/prices.yaml:
      date: 2026-11-02
      lambda: {gb_second: 0.0000151}
      ec2: {machines: {t3.medium: {hour: 0.0416, cpu: 2, memory_mb: 4096}}}
      on_premises: {oscar_hour: 0.11}
    """  # noqa: D301 - click wants the backspace itself
    from volvox.pools.files import read_pools
    from volvox.pricing.prices import read_prices
    from volvox.settings import Home

    home = Home.current()
    found = read_prices(home)
    pools = {name: pool.cost_per_hour for name, pool in read_pools(home).items()}
    if as_json:
        click.echo(json.dumps({**found.model_dump(by_alias=True), "pools": pools}, indent=2))
        return
    unit = found.currency
    rows = [
        ("lambda", f"{found.on_aws_lambda.gb_second:.10f} {unit} a GB-second (arm64 "
                   f"{found.on_aws_lambda.gb_second_arm64:.10f}), {found.on_aws_lambda.request:.7f} a request",
         found.on_aws_lambda.source),
        ("ecs", f"{found.fargate.vcpu_hour:g} {unit} a vCPU-hour, {found.fargate.gb_hour:g} a GB-hour, "
                f"{found.fargate.least_seconds:g} s at least", found.fargate.source),
        *(("batch", f"{machine.hour:g} {unit} an hour of {name} ({machine.cpu:g} CPU, {machine.memory_mb:,} MB, "
                    f"{machine.gpus or 'no'} GPU)", found.ec2.source) for name, machine in found.ec2.machines.items()),
        *((name, f"{hour:g} an hour of one instance", f"volvox pools show {name}") for name, hour in pools.items()
          if name in ("local", "docker", "kubernetes")),
        ("oscar", f"{found.on_premises.oscar_hour:g} {unit} an hour of one instance", "on_premises.oscar_hour"),
    ]  # fmt: skip
    click.echo(f"prices of {found.date}, {found.region}")
    for name, price, source in rows:
        click.echo(f"{name:<11} {price}  ({source})")
    click.echo("what the gateway's paper prints, corrected:")
    for one in found.corrections:
        click.echo(f"  {one.item}: {_plain(one.printed)} is {_plain(one.corrected)} {unit}; {one.why}")


def _plain(number: float) -> str:
    return f"{number:.10f}".rstrip("0").rstrip(".")

"""What one call costs on a runtime: by the second of an instance, by the call."""

from __future__ import annotations

from dataclasses import dataclass

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.pools.definition import PoolDefinition
from volvox.pricing.prices import Machine, Prices

# What AWS gives a function that says nothing of its memory, as SCAR's files mean it too.
_LAMBDA_MB, _TASK_MB, _TASK_CPU = 512, 512, 0.25
_HOUR = 3600.0


class NoMachine(InvalidInput):
    """No machine of AWS Batch whose price is known has what a function may use."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A price.

    Attributes:
        second: Of an instance that starts or does a job.
        idle_second: Of one that waits for the next job.
        call: Of one job, however long it takes.
        least_seconds: A job and its start are counted for so long at least.
        said: What is charged, in a few words.
        currency: What it is in; empty: the operator's own, as in the pools' files.
    """

    second: float = 0.0
    idle_second: float = 0.0
    call: float = 0.0
    least_seconds: float = 0.0
    said: str = "costs nothing"
    currency: str = ""

    def cost(self, seconds: float) -> float:
        """Of a job that took so many seconds of an instance, its start included."""
        return max(seconds, self.least_seconds if self.second else 0.0) * self.second + self.call


def of_pool(pool: PoolDefinition) -> Charge:
    """An instance on machines whose hour a pool's file prices."""
    hour = pool.cost_per_hour
    return Charge(hour / _HOUR, hour / _HOUR, said=f"{hour:g} an hour") if hour else Charge()


def of_hour(hour: float, prices: Prices) -> Charge:
    """An instance whose hour has a price."""
    if not hour:
        return Charge(currency=prices.currency)
    return Charge(hour / _HOUR, hour / _HOUR, said=f"{hour:g} an hour", currency=prices.currency)


def of_lambda(function: Function, prices: Prices, arm64: bool = False) -> Charge:
    """AWS Lambda: memory by the second while it starts and runs, and each request."""
    told = prices.on_aws_lambda
    gb = (function.resources.memory_mb or _LAMBDA_MB) / 1024
    each = told.gb_second_arm64 if arm64 else told.gb_second
    said = f"{gb:g} GB at {each:.10f} a GB-second, {told.request:.7f} a request"
    return Charge(gb * each, 0.0, told.request, said=said, currency=prices.currency)


def of_fargate(function: Function, prices: Prices) -> Charge:
    """An ECS task: processors and memory by the second from the pull of its image on."""
    told = prices.fargate
    cpu = function.resources.cpu or _TASK_CPU
    gb = (function.resources.memory_mb or _TASK_MB) / 1024
    hour = cpu * told.vcpu_hour + gb * told.gb_hour
    said = f"{cpu:g} vCPU and {gb:g} GB at {hour:.4f} an hour, {told.least_seconds:g} s at least"
    return Charge(hour / _HOUR, hour / _HOUR, 0.0, told.least_seconds, said, prices.currency)


def of_batch(function: Function, prices: Prices) -> Charge:
    """The cheapest EC2 machine that is large enough, whose whole hour is charged also while it waits.

    Raises:
        NoMachine: If none of those whose price is known is large enough.
    """
    name, machine = machine_for(function, prices)
    least = prices.ec2.least_seconds
    second = machine.hour / _HOUR
    return Charge(second, second, 0.0, least, f"{name} at {machine.hour:g} an hour", prices.currency)


def machine_for(function: Function, prices: Prices) -> tuple[str, Machine]:
    """Name and kind of the cheapest machine of AWS Batch that has what the function may use.

    Raises:
        NoMachine: As for `of_batch`.
    """
    needs = function.resources
    fitting = [
        (machine.hour, name, machine)
        for name, machine in prices.ec2.machines.items()
        if machine.cpu >= (needs.cpu or 0)
        and machine.memory_mb >= (needs.memory_mb or 0)
        and machine.gpus >= needs.gpus
    ]
    if not fitting:
        asked = f"{needs.cpu or 1:g} CPU, {needs.memory_mb or 0} MB, {needs.gpus} GPUs"
        raise NoMachine(f"no EC2 machine whose price is known has {asked}; add one to prices.yaml under ec2: machines")
    _, name, machine = min(fitting, key=lambda each: each[:2])
    return name, machine

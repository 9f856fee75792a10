"""The runtimes of an installation as places that a function might go to, with their limits and prices."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from volvox.functions.definition import Function
from volvox.pools.definition import Offers, PoolDefinition
from volvox.pools.files import read_pools
from volvox.pools.machine import this_machine
from volvox.pricing.charges import Charge, NoMachine, of_batch, of_fargate, of_hour, of_lambda, of_pool
from volvox.pricing.choice import Choice, Limits, Place, choose, lacks
from volvox.pricing.prices import Prices, read_prices
from volvox.settings import Home

# Those that a function may be placed on; of equally good ones the first is taken.
RUNTIMES = ("local", "docker", "kubernetes", "lambda", "lambda-batch", "batch", "ecs", "oscar")
_KNOWN = Path(__file__).parent / "runtimes.yaml"


def placed(function: Function, home: Home, opened: Collection[str]) -> Choice:
    """Where a function goes whose runtime is `auto`.

    Args:
        function: The function, filled with what its model's metadata says.
        home: Whose pools and prices count.
        opened: Runtimes that can be used here.

    Raises:
        InvalidInput: If a pool's file or a file of prices is wrong.
    """
    return choose(function, places(function, home, opened))


def places(function: Function, home: Home, opened: Collection[str]) -> list[Place]:
    """Every runtime, as it is for this function.

    Raises:
        InvalidInput: As for `placed`.
    """
    allowed, known = function.placement.among, _known(home)
    found = [_place(name, function, known) for name in RUNTIMES if not allowed or name in allowed]
    return [one if one.runtime in opened else replace(one, closed="it is not set up here") for one in found]


def charge_of(runtime: str, function: Function, home: Home) -> Charge | None:
    """What calls of a function cost on a runtime; None: that is told elsewhere, as a flow's is by its pool.

    Raises:
        InvalidInput: As for `placed`.
    """
    if runtime not in RUNTIMES:
        return None
    return _place(runtime, function, _known(home)).charge


@dataclass(frozen=True, slots=True)
class _Known:
    """What counts in a home."""

    prices: Prices
    pools: Mapping[str, PoolDefinition]


def _known(home: Home) -> _Known:
    return _Known(read_prices(home), read_pools(home))


def _place(name: str, function: Function, here: _Known) -> Place:
    if name == "lambda-batch":
        return _lambda_or_batch(function, here)
    known = _runtimes()[name]
    limits, charge, cannot = _limits(name, known, here), Charge(), _cannot(name, function)
    try:
        charge = _charge(name, function, here)
    except NoMachine as error:
        cannot = cannot or f"does not fit: {error}"
    keep = known.get("keep_seconds", function.scaling.idle_seconds if function.model else 0.0)
    cold = here.pools[name].startup_seconds if name == "kubernetes" else known["cold_seconds"]
    return Place(name, limits, charge, cold, keep, cannot)


def _lambda_or_batch(function: Function, here: _Known) -> Place:
    """A call goes to Lambda if it fits there, and to Batch otherwise."""
    on_lambda = _place("lambda", function, here)
    call = function.model_copy(update={"timeout_seconds": function.placement.call_seconds or 1.0})
    which = on_lambda if not lacks(call, on_lambda.limits) else _place("batch", function, here)
    cannot = _cannot("lambda-batch", function) or which.cannot
    return Place("lambda-batch", Limits(), which.charge, which.cold_seconds, which.keep_seconds, cannot)


def _cannot(name: str, function: Function) -> str:
    """Why a runtime cannot run such a function at all."""
    if name == "local" and function.image and not function.settings.get("as_process"):
        return "runs models, and scripts only with settings: {as_process: true}"
    if name != "local" and function.image and function.settings.get("as_process"):
        return "runs no plain process, which settings: {as_process: true} asks for"
    if name != "lambda" and function.trigger == "direct":
        return "is not called by buckets, which trigger: direct asks for"
    return ""


def _limits(name: str, known: Mapping[str, Any], here: _Known) -> Limits:
    if name in ("local", "docker"):
        machine = _machine()
        # Processes share the cores there are; an engine refuses a container more than it has.
        return Limits(machine.memory_mb, machine.cpu if name == "docker" else None, machine.gpus)
    if name == "kubernetes":
        offers = here.pools[name].offers
        return Limits(offers.memory_mb, offers.cpu, offers.gpus, offers.storage_mb)
    fields = Limits.__dataclass_fields__
    return Limits(**{key: value for key, value in known.items() if key in fields})


def _charge(name: str, function: Function, here: _Known) -> Charge:
    prices = here.prices
    if name in ("local", "docker", "kubernetes"):
        return of_pool(here.pools[name])
    if name == "lambda":
        stated = function.settings.get("lambda")
        architectures = stated.get("architectures") if isinstance(stated, dict) else None
        return of_lambda(function, prices, arm64="arm64" in (architectures or ()))
    if name == "ecs":
        return of_fargate(function, prices)
    return of_batch(function, prices) if name == "batch" else of_hour(prices.on_premises.oscar_hour, prices)


@cache
def _runtimes() -> dict[str, dict[str, Any]]:
    told = yaml.safe_load(_KNOWN.read_text())
    return {name: value for name, value in told.items() if isinstance(value, dict)}


@cache
def _machine() -> Offers:
    """What this machine has, asked once: its cores and GPUs stay as they are."""
    return this_machine()

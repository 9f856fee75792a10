"""Read what shall be simulated from a YAML file; what is wrong is told with file, line and key."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from volvox.elasticity.scenario import (
    MOST_JOBS,
    MOST_NODES,
    POLICY_NAMES,
    Instances,
    Nodes,
    PolicyName,
    Prices,
    Scenario,
    Work,
    at_random,
)
from volvox.errors import InvalidInput
from volvox.functions.document import Value, Wrong, read_documents, read_text
from volvox.functions.entries import Entries, Reading
from volvox.functions.values import choice, near, number, said, truth, whole

_LONGEST = 10 * 365 * 86_400.0  # seconds; what takes longer than ten years is a mistake of units
_MOST_COINS = 1e6

KEYS = {
    "": ("name", "jobs", "image", "instances", "nodes", "prices"),
    "jobs": ("csv", "at_seconds", "count", "per_hour", "seed", "run_seconds"),
    "image": ("pull_seconds", "prefetched"),
    "instances": ("kept", "start_seconds", "between_seconds", "min", "max", "idle_seconds", "expected_seconds"),
    "nodes": ("min", "max", "at_start", "slots", "boot_seconds", "idle_seconds", "policy"),
    "prices": ("node_hour", "gb_second", "request", "memory_mb", "currency"),
}


def read(path: Path) -> Scenario:
    """The scenario in the file at `path`.

    Raises:
        InvalidInput: If it, or the CSV file that it names, cannot be read or is wrong; the message tells every mistake
            with file, line and key, what is there, and what is allowed.
    """
    path = path.expanduser().absolute()
    documents = read_documents(read_text(path), str(path))
    if len(documents) != 1 or documents[0].kind != "map":
        there = f"it holds {documents[0].told}" if len(documents) == 1 else f"it holds {len(documents)} documents"
        raise InvalidInput(
            f"{path}: {there}; a simulation's file holds keys and values: jobs, and image, instances, nodes, prices "
            "(`volvox simulate --help` shows one)"
        )
    reading = Reading(path)
    found = _scenario(Entries(documents[0], reading), reading)
    mistakes = [*reading.mistakes, *reading.warnings]  # a key that stands twice is no small matter here
    if mistakes or found is None:
        raise InvalidInput("\n".join(dict.fromkeys(mistakes)))
    return found


def _scenario(top: Entries, reading: Reading) -> Scenario | None:
    name = top.take("name", said, reading.path.stem)
    jobs = top.get("jobs")
    work: tuple[Work, ...] = ()
    if jobs is None:
        reading.mistakes.append(f"{top.value.where}: jobs is missing; write jobs: {{count: 10, run_seconds: 20}}")
    else:
        work = _jobs(Entries(jobs, reading), reading)
    image = top.inner("image")
    pull = image.take("pull_seconds", _seconds, 0.0)
    prefetched = image.take("prefetched", truth, False)
    instances = _instances(top.inner("instances"), work, reading)
    nodes_value = top.get("nodes")
    nodes = _nodes(Entries(nodes_value, reading), reading) if nodes_value is not None else None
    prices = _prices(top.inner("prices"))
    for section, entries in (("", top), ("image", image)):
        _refuse_rest(entries, section)
    if reading.mistakes or not work:
        return None
    if nodes is None:
        _without_nodes(top, pull, prices, reading)
    if reading.mistakes:
        return None
    return Scenario(name, work, instances, 0.0 if prefetched else pull, nodes, prices)


def _without_nodes(top: Entries, pull: float, prices: Prices, reading: Reading) -> None:
    for section, key, told in (("image", "pull_seconds", pull), ("prices", "node_hour", prices.node_hour)):
        if told and (value := _at(top.value, section, key)):
            reading.mistakes.append(str(value.wrong(f"is {value.told}, and there are no nodes; add nodes: {{max: 2}}")))


def _jobs(entries: Entries, reading: Reading) -> tuple[Work, ...]:
    ways = [key for key in ("csv", "at_seconds", "count") if entries.get(key) is not None]
    if len(ways) != 1:
        told = f"has {' and '.join(ways)}; give one of them" if ways else "says not when they come"
        more = "csv: FILE, at_seconds: [0, 0, 60], or count: 10 with per_hour: 120"
        reading.mistakes.append(str(entries.value.wrong(f"{told}: {more}")))
        return ()
    if ways == ["csv"]:
        value = cast(Value, entries.get("csv"))
        for key in ("run_seconds", "per_hour", "seed"):
            if (other := entries.get(key)) is not None:
                reading.mistakes.append(str(other.wrong("stands beside csv, whose columns say all; leave it out")))
        _refuse_rest(entries, "jobs")
        return tuple(reading.tried(lambda value: _table(value, reading), value, []))
    arrivals = _arrivals(entries, ways[0], reading)
    runs = _runs(entries, len(arrivals), reading)
    _refuse_rest(entries, "jobs")
    if len(arrivals) != len(runs):
        return ()
    return _in_order(Work(at, run) for at, run in zip(arrivals, runs, strict=True))


def _arrivals(entries: Entries, way: str, reading: Reading) -> list[float]:
    if way == "at_seconds":
        listed = [reading.tried(_seconds, one, 0.0) for one in entries.items("at_seconds")]
        if not listed or len(listed) > MOST_JOBS:
            value = cast(Value, entries.get("at_seconds"))
            reading.mistakes.append(str(value.wrong(f"has {len(listed)} jobs; give 1 to {MOST_JOBS:,}")))
        for key in ("per_hour", "seed"):
            if (other := entries.get(key)) is not None:
                reading.mistakes.append(str(other.wrong("stands beside at_seconds; it goes with count")))
        return listed
    count = entries.take("count", whole(1, MOST_JOBS), 0)
    per_hour = entries.take("per_hour", number(1e-6, 1e9), 0.0)
    seed = entries.take("seed", whole(0, 2**31 - 1), 1)
    if entries.get("seed") is not None and entries.get("per_hour") is None:
        value = cast(Value, entries.get("seed"))
        reading.mistakes.append(
            str(value.wrong("stands without per_hour: all jobs come at once, and nothing is drawn"))
        )
    return at_random(count, per_hour, seed) if per_hour else [0.0] * count


def _runs(entries: Entries, count: int, reading: Reading) -> list[float]:
    value = entries.get("run_seconds")
    if value is None:
        where = entries.value.where
        reading.mistakes.append(
            f"{where}: jobs.run_seconds is missing; write a number, or a list with one for each job"
        )
        return []
    if value.kind != "list":
        return [reading.tried(_run_seconds, value, 1.0)] * count
    runs = [reading.tried(_run_seconds, one, 1.0) for one in value.items]
    if len(runs) != count and count:
        reading.mistakes.append(str(value.wrong(f"has {len(runs)} numbers for {count} jobs; give one for each")))
    return runs


def _seconds(value: Value) -> float:
    if (found := number(0)(value)) > _LONGEST:
        raise value.wrong(f"is {value.told}, which is longer than ten years; write seconds")
    return found


def _pause(value: Value) -> float:
    """Seconds that may be negative."""
    found = value.plain()
    if value.kind != "number" or abs(found) > _LONGEST:
        raise value.wrong(f"is {value.told}; write seconds, negative where two jobs overlap")
    return float(found)


def _run_seconds(value: Value) -> float:
    found = _seconds(value)
    if not found:
        raise value.wrong("is 0; a job takes some time, give seconds above 0")
    return found


def _table(value: Value, reading: Reading) -> list[Work]:
    """The jobs of a CSV file: its columns `run_seconds` and `at_seconds`, and no other is looked at."""
    path = reading.beside(said(value))
    try:
        text = read_text(path)
    except InvalidInput as error:
        raise value.wrong(f"cannot be used: {error}") from error
    lines = [(index, line) for index, line in enumerate(text.split("\n"), 1) if line.strip() and line[0] != "#"]
    rows = csv.reader(io.StringIO("\n".join(line for _, line in lines)))
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if "run_seconds" not in header:
            raise Wrong(f"{path}:{lines[0][0] if lines else 1}: there is no column run_seconds; there are {header}")
        found = [
            _row(path, line, dict.fromkeys(header, "") | dict(zip(header, cells, strict=False)))
            for (line, _), cells in zip(lines[1:], rows, strict=False)
        ]
    except csv.Error as error:
        raise Wrong(f"{path}: it is no CSV ({error})") from error
    if not found or len(found) > MOST_JOBS:
        raise Wrong(f"{path}: it has {len(found)} jobs; give 1 to {MOST_JOBS:,}")
    return list(_in_order(found))


def _row(path: Path, line: int, row: dict[str, str]) -> Work:
    def seconds(column: str, above: bool) -> float:
        told = row.get(column, "").strip()
        try:
            found = float(told or "nan")
        except ValueError:
            found = math.nan
        if not 0 <= found <= _LONGEST or (above and not found):
            raise Wrong(
                f"{path}:{line}: {column} is {told!r}; write seconds{' above 0' if above else ' from 0 upwards'}"
            )
        return found

    return Work(seconds("at_seconds", False) if "at_seconds" in row else 0.0, seconds("run_seconds", True))


def _in_order(work: Any) -> tuple[Work, ...]:
    return tuple(sorted(work, key=lambda one: one.at_seconds))  # those of one moment stay as they stand


def _instances(entries: Entries, work: Sequence[Work], reading: Reading) -> Instances:
    kept = entries.take("kept", truth, False)
    found = Instances(
        kept=kept,
        start_seconds=entries.take("start_seconds", _seconds, 0.0),
        between_seconds=entries.take("between_seconds", _pause, 0.0),
        least=entries.take("min", whole(0, 1_000), 0),
        most=entries.take("max", whole(1, 100_000), 1_000),
        idle_seconds=entries.take("idle_seconds", _seconds, 300.0),
        expected_seconds=entries.take("expected_seconds", _seconds, -1.0),
    )
    _refuse_rest(entries, "instances")
    if found.least > found.most:
        value = cast(Value, entries.get("min"))
        reading.mistakes.append(str(value.wrong(f"is {found.least}, and max is {found.most}; it is never larger")))
    for key in ("min", "idle_seconds"):
        if not kept and (value := entries.get(key)) is not None:
            reading.mistakes.append(str(value.wrong("counts for instances that are kept; add kept: true")))
    if kept and found.between_seconds < 0:
        value = cast(Value, entries.get("between_seconds"))
        reading.mistakes.append(str(value.wrong("is negative, and an instance that is kept does one job at a time")))
    shortest = min((one.run_seconds for one in work), default=math.inf)
    if -found.between_seconds >= shortest:
        value = cast(Value, entries.get("between_seconds"))
        told = f"is {value.told}: jobs, the shortest of {shortest:g} s, would begin before the one before them"
        reading.mistakes.append(str(value.wrong(told)))
    if found.expected_seconds < 0:
        mean = sum(one.run_seconds for one in work) / len(work) if work else 0.0
        return Instances(**{**_fields(found), "expected_seconds": mean})
    return found


def _nodes(entries: Entries, reading: Reading) -> Nodes:
    some, before = whole(0, MOST_NODES), len(reading.mistakes)
    least = entries.take("min", some, 0)
    most = entries.take("max", some, max(1, least))
    found = Nodes(
        least=least,
        most=most,
        at_start=entries.take("at_start", some, least),
        slots=entries.take("slots", whole(0, 1_000), 1),
        boot_seconds=entries.take("boot_seconds", _seconds, 0.0),
        idle_seconds=entries.take("idle_seconds", _seconds, 300.0),
        policy=cast(PolicyName, entries.take("policy", choice(*POLICY_NAMES), "needed")),
    )
    _refuse_rest(entries, "nodes")
    for key, value in (("max", found.most), ("slots", found.slots)):
        if not value:
            told = "is 0, so that there is no slot and no job would ever begin; give 1 or more"
            reading.mistakes.append(str(cast(Value, entries.get(key)).wrong(told)))
    for key, value in (("min", found.least), ("at_start", found.at_start)):
        if value > found.most and len(reading.mistakes) == before:
            given = cast(Value, entries.get(key) or entries.get("min"))
            reading.mistakes.append(str(given.wrong(f"is {value}, and max is {found.most}; it is never larger")))
    return found


def _prices(entries: Entries) -> Prices:
    coins = number(0, _MOST_COINS)
    found = Prices(
        node_hour=entries.take("node_hour", coins, 0.0),
        gb_second=entries.take("gb_second", coins, 0.0),
        request=entries.take("request", coins, 0.0),
        memory_mb=entries.take("memory_mb", whole(0, 100_000_000), 0),
        currency=entries.take("currency", said, "USD"),
    )
    _refuse_rest(entries, "prices")
    if found.gb_second and not found.memory_mb:
        value = cast(Value, entries.get("gb_second"))
        entries.reading.mistakes.append(str(value.wrong("is a price of memory; say memory_mb beside it")))
    return found


def _refuse_rest(entries: Entries, section: str) -> None:
    for name, value in entries.rest():
        allowed = KEYS[section]
        told = f"is not known{near(name, allowed)}; allowed are {', '.join(allowed)}"
        entries.reading.mistakes.append(str(value.wrong(told)))


def _at(top: Value, *keys: str) -> Value | None:
    found: Value | None = top
    for key in keys:
        found = found.get(key) if found is not None else None
    return found


def _fields(instances: Instances) -> dict[str, Any]:
    return {name: getattr(instances, name) for name in instances.__dataclass_fields__}

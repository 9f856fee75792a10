"""A picture of simulations: which node did which job when, what waited meanwhile, and how many nodes were on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from volvox.disks import telling_full_disks
from volvox.elasticity.result import Result
from volvox.elasticity.table import duration, money
from volvox.errors import InvalidInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY, BLUE, RED, PALE = "#1b1f24", "#8b949e", "#2f6f9f", "#b3392f", "#e4e7ea"
_MOST_LINES = 40  # of nodes, or of instances where there are no nodes


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw results below each other into a PNG file at `path`, which is replaced.

    Raises:
        InvalidInput: If matplotlib is not installed, or the file cannot be written there.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput(f"a picture needs matplotlib: pip install 'volvox[cycle]' ({error})") from error
    if not path.parent.is_dir():
        raise InvalidInput(f"{path} cannot be written: there is no folder {path.parent}")
    heights = [height for one in results for height in (_lines(one) * 0.22 + 0.8, 1.3)]
    figure = Figure(figsize=(8.5, sum(heights) + 0.5 * len(results)), dpi=110, layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    end = max(_end(one) for one in results)
    for index, result in enumerate(results):
        _who_did_what(axes[2 * index], result)
        _what_waited(axes[2 * index + 1], result)
    for one in axes:
        one.set_xlim(0, end * 1.01)
        for edge in ("top", "right"):
            one.spines[edge].set_visible(False)
    with telling_full_disks(path.parent):
        try:
            FigureCanvasAgg(figure).print_png(str(path))
        except (PermissionError, IsADirectoryError) as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def _who_did_what(axes: Axes, result: Result) -> None:
    nodes = result.scenario.nodes
    policy = f", policy {nodes.policy}" if nodes else ""
    cost = f", {money(result)} {result.scenario.prices.currency}" if result.cost else ""
    axes.set_title(
        f"{result.scenario.name}{policy}: {len(result.jobs)} jobs in {duration(result.makespan_seconds)}, "
        f"mean wait {duration(result.mean_wait_seconds)}{cost}",
        fontsize=10, color=INK, loc="left",
    )  # fmt: skip
    for node in result.nodes[:_MOST_LINES]:
        axes.broken_barh([(node.asked, result.off_at(node) - node.asked)], (node.number - 0.4, 0.8), color=PALE)
        if node.ready is not None and node.ready > node.asked:
            span = [(node.asked, node.ready - node.asked)]
            axes.broken_barh(span, (node.number - 0.4, 0.8), facecolor="white", edgecolor=GREY, hatch="////")
        if node.ready is not None and node.usable is not None and node.usable > node.ready:
            begin = node.usable - result.scenario.pull_seconds
            axes.broken_barh([(begin, node.usable - begin)], (node.number - 0.4, 0.8), color=GREY)
    slots = nodes.slots if nodes else 1
    for (line, slot), spans in _spans(result, slots).items():
        top, height = line - 0.3 + 0.6 * slot / slots, 0.6 / slots
        axes.broken_barh(spans, (top, height), facecolor=BLUE, edgecolor="white", linewidth=0.6)
    lines = _lines(result)
    axes.set_ylim(lines - 0.4, -0.6)
    step = max(1, lines // 10)
    axes.set_yticks(range(0, lines, step), [str(number + 1) for number in range(0, lines, step)], fontsize=7)
    axes.set_ylabel("node" if nodes else "instance", fontsize=8)
    axes.tick_params(labelsize=7)


def _what_waited(axes: Axes, result: Result) -> None:
    times, waiting = _steps([(job.came, 1) for job in result.jobs] + [(job.begun, -1) for job in result.jobs])
    axes.step(times, waiting, where="post", color=RED, linewidth=1.2, label="jobs waiting")
    if result.nodes:
        changes = [(node.asked, 1) for node in result.nodes]
        changes += [(node.off, -1) for node in result.nodes if node.off is not None]
        times, on = _steps(changes)
        axes.step([*times, _end(result)], [*on, on[-1]], where="post", color=INK, linewidth=1.2, label="nodes on")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(frameon=False, fontsize=7, loc="upper right")


def _spans(result: Result, slots: int) -> dict[tuple[int, int], list[tuple[float, float]]]:
    """Line and slot on it -> when jobs ran there and how long; without nodes, each that overlaps has its own line."""
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    free: dict[int, list[float]] = {}
    for job in sorted(result.jobs, key=lambda one: one.begun):
        ends = free.setdefault(job.node, [])
        place = next((index for index, time in enumerate(ends) if time <= job.begun), len(ends))
        ends[place : place + 1] = [job.ended]
        key = (job.node, place % slots) if result.nodes else (place, 0)
        if key[0] < _MOST_LINES:
            found.setdefault(key, []).append((job.begun, job.run_seconds))
    return found


def _lines(result: Result) -> int:
    lines = len(result.nodes) or min(result.most_instances, _MOST_LINES)
    return max(1, min(lines, _MOST_LINES))


def _end(result: Result) -> float:
    return max([job.ended for job in result.jobs] + [result.off_at(node) for node in result.nodes])


def _steps(changes: list[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """A count over time, from what it changes by and when."""
    totals: dict[float, int] = {0.0: 0}
    for time, by in changes:
        totals[time] = totals.get(time, 0) + by
    times, counts, now = sorted(totals), list[int](), 0
    for time in times:
        now += totals[time]
        counts.append(now)
    return times, counts

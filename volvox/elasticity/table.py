"""Simulations for people: a table with a line for each policy, each job, or each experiment of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from volvox.elasticity.paper import Replay
from volvox.elasticity.result import Result, quantile

if TYPE_CHECKING:
    from rich.table import Table

TITLES = ("policy", "makespan", "mean wait", "p95 wait", "longest", "nodes", "node-seconds", "busy", "cost")
_JOB_TITLES = ("job", "came", "began", "ended", "waited", "ran", "node")
_PAPER_TITLES = (
    "experiment",
    "simulated",
    "paper",
    "difference",
    "two slots",
    "nodes",
    "cost",
    "ours",
    "nodes",
    "cost",
)
_MEANS = {
    "needed": "ours: a node only if it is ready before the jobs that wait have begun",
    "eager": "a node for whatever waits, as CLUES and AWS Batch do",
    "always": "every node on from the beginning to the end",
}


def row(result: Result) -> tuple[str, ...]:
    """The cells under `TITLES`."""
    waits = result.waits
    nodes = result.scenario.nodes
    return (
        nodes.policy if nodes else "no nodes", duration(result.makespan_seconds), duration(result.mean_wait_seconds),
        duration(quantile(waits, 0.95)), duration(waits[-1]), str(len(result.nodes)) if nodes else "-",
        f"{result.node_seconds:,.0f}" if nodes else "-", f"{result.busy_share:.0%}", money(result),
    )  # fmt: skip


def policies_page(results: Sequence[Result]) -> tuple[Table, list[str]]:
    """A line for each policy, and what they mean."""
    told = [f"{name:<8} {means}" for name, means in _MEANS.items() if any(row(one)[0] == name for one in results)]
    return _table(TITLES, [row(one) for one in results]), told


def jobs_page(result: Result) -> Table:
    """A line for each job."""
    return _table(
        _JOB_TITLES,
        [
            (
                str(job.number + 1), duration(job.came), duration(job.begun), duration(job.ended),
                duration(job.wait_seconds), duration(job.run_seconds), str(job.node + 1) if result.nodes else "-",
            )
            for job in result.jobs
        ],
    )  # fmt: skip


def paper_page(replays: Sequence[Replay], gains: Mapping[int, float]) -> tuple[Table, list[str]]:
    """The paper's experiments beside what was simulated, and what our policy makes of them."""
    rows = [
        (
            one.replayed.scenario.name, duration(one.replayed.makespan_seconds), duration(one.published_seconds),
            f"{one.difference:+.1%}", duration(one.two_slots.makespan_seconds), str(len(one.replayed.nodes)),
            money(one.replayed), duration(one.needed.makespan_seconds), str(len(one.needed.nodes)), money(one.needed),
        )
        for one in replays
    ]  # fmt: skip
    none = max((jobs for jobs, gained in gains.items() if gained <= 0), default=0)
    gained = [f"{seconds:.0f} s with {jobs}" for jobs, seconds in gains.items() if seconds > 0]
    notes = [
        "simulated: from run times, image pull, the pause between jobs and the nodes' times; waits are not read",
        "two slots: the least that two warm machines can do",
        f"ours: on OSCAR a second node is not started for up to {none} jobs at once, as it would come too late;",
        f"      it gains {', '.join(gained)}",
    ]
    return _table(_PAPER_TITLES, rows), notes


def duration(seconds: float) -> str:
    """Seconds in few digits."""
    return f"{seconds:,.0f} s" if seconds >= 100 or seconds == round(seconds) else f"{seconds:.1f} s"


def money(result: Result) -> str:
    """A cost with enough digits to tell two of them apart."""
    cost = result.cost
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.4f}" if cost else "0"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    return table

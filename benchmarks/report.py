"""The limits of `benchmarks.serving`, and its tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Race

BATCHING = ("litserve", "bentoml", "mlflow")


@dataclass(frozen=True)
class Verdict:
    """One limit: what, how much, the limit, and whether it is reached (None: its peer was not measured)."""

    key: str
    title: str
    figure: float | None
    least: float | None = None
    most: float | None = None
    aim: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the figure keeps its limit."""
        if self.figure is None or self.least is self.most:  # both None: no limit
            return None
        if self.least is not None:
            return self.figure >= self.least
        return self.most is None or self.figure <= self.most


def limits_of(races: dict[str, Race], memory: dict[str, float], missing: dict[str, str]) -> list[Verdict]:
    """All limits, in the order of the parts."""
    return [*_against_deepaas(races, memory), *_against_peers(races["digits"], missing)]


def _against_deepaas(races: dict[str, Race], memory: dict[str, float]) -> list[Verdict]:
    free = races["all cores"]
    rivals = [title for title, _ in free.samples if title.startswith("deepaas")]
    best = max(rivals, key=lambda title: free.median(title, 16, "rate"), default="deepaas")
    quickest = min(rivals, key=lambda title: free.median(title, 1, "p50"), default="deepaas")
    theirs, mine = memory.get("deepaas worker pss"), memory.get("volvox worker pss")
    held = mine / theirs if mine and theirs else None
    uploads = races.get("uploads", Race())
    pinned = races["one core"].ratio("volvox", "deepaas", 16, "rate")
    return [
        Verdict(
            "ratio_to_deepaas_c16", f"A: answers/s at c16, of {best}'s", _known(free.ratio("volvox", best, 16, "rate")),
            least=3, aim="5",
        ),
        Verdict("ratio_to_deepaas_c16_one_core", "A: the same on one core", _known(pinned)),
        Verdict(
            "latency_to_deepaas_c1", "A: median latency of a lone client, of deepaas's",
            _known(free.ratio("volvox", quickest, 1, "p50")), most=1,
        ),
        Verdict(
            "upload_to_deepaas", "A: seconds of a 20 MB upload, of deepaas's",
            _known(uploads.ratio("volvox", "deepaas", 1, "p50")), most=1,
        ),
        Verdict("worker_memory_to_deepaas", "A: PSS of an idle worker, of deepaas's", held, most=1),
    ]  # fmt: skip


def _against_peers(digits: Race, missing: dict[str, str]) -> list[Verdict]:
    verdicts = []
    for concurrency in (16, 64):
        rivals = [peer for peer in BATCHING if (peer, concurrency) in digits.samples]
        fastest = max(rivals, key=lambda peer: digits.median(peer, concurrency, "rate"), default="none")
        absent = "".join(f", {peer} missing" for peer in BATCHING if peer in missing)
        who = f"{fastest}'s, the fastest of {len(rivals)}{absent}"
        rate, p99 = (_known(digits.ratio("volvox", fastest, concurrency, figure)) for figure in ("rate", "p99"))
        verdicts += [
            Verdict(f"ratio_to_fastest_c{concurrency}", f"B: answers/s at c{concurrency}, of {who}", rate, least=2),
            Verdict(f"p99_to_fastest_c{concurrency}", f"B: p99 at c{concurrency}, of {fastest}'s", p99, most=1),
        ]
    for concurrency in (1, 16, 64):
        plain = _known(digits.ratio("volvox", "fastapi", concurrency, "rate"))
        title = f"B: answers/s at c{concurrency}, of plain FastAPI's"
        verdicts.append(Verdict(f"ratio_to_fastapi_c{concurrency}", title, plain, least=1))
    alone = _known(digits.ratio("volvox", "litserve", 1, "p50"))
    verdicts.append(
        Verdict("latency_to_litserve_c1", "B: median latency of a lone client, of LitServe's", alone, most=1)
    )
    return verdicts


def _known(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


def show(
    races: dict[str, Race], memory: dict[str, float], settings: dict[str, dict[int, dict[str, Any]]],
    missing: dict[str, str], verdicts: list[Verdict],
) -> None:  # fmt: skip
    """Print everything."""
    console = Console(width=120)
    titles = {
        "all cores": "A: trivial module, server and client on all cores",
        "one core": "A: trivial module, server on one core",
        "uploads": "A: one 20 MB upload after the other",
        "digits": "B: digits, server on one core",
    }
    for key, found in races.items():
        console.print(_race(titles[key], found))
    console.print(_memory(memory))
    for peer, chosen in settings.items():
        console.print(f"settings of {peer}: {', '.join(f'c{at} {setting}' for at, setting in chosen.items())}")
    for peer, reason in missing.items():
        console.print(f"[red]missing: {peer}[/]: {reason.splitlines()[0]}")
    table = Table("limit", title="Limits (ratios: medians of the rounds' ratios)", title_justify="left")
    for heading in ("measured", "limit", "reached"):
        table.add_column(heading, justify="right")
    words = {True: "[green]yes[/]", False: "[red]NO[/]", None: "[yellow]not measured[/]"}
    for verdict in verdicts:
        limit = f">= {verdict.least:g}" if verdict.least is not None else f"<= {verdict.most:g}" if verdict.most else ""
        limit += f" (aim {verdict.aim})" if verdict.aim else ""
        figure = "" if verdict.figure is None else f"{verdict.figure:.2f}"
        table.add_row(verdict.title, figure, limit, words[verdict.reached] if limit else "")
    console.print(table)


def _race(title: str, found: Race) -> Table:
    table = Table("server", title=title, title_justify="left")
    headings = ("c", "answers/s", "p50 ms", "p99 ms", "server CPU µs/request", "client's core", "refused", "wrong")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, concurrency in sorted(found.samples, key=lambda key: key[1]):

        def figure(what: str, name: str = name, concurrency: int = concurrency) -> float:
            return found.median(name, concurrency, what)

        refused, wrong = (sum(getattr(s, w) for s in found.samples[name, concurrency]) for w in ("refused", "wrong"))
        table.add_row(
            name, str(concurrency), f"{figure('rate'):.0f}", f"{1e3 * figure('p50'):.2f}",
            f"{1e3 * figure('p99'):.2f}", f"{1e6 * figure('cpu'):.0f}", f"{100 * figure('client_share'):.0f} %",
            str(refused), str(wrong),
        )  # fmt: skip
    return table


def _memory(memory: dict[str, float]) -> Table:
    table = Table("server", title="A: memory when idle, MB", title_justify="left")
    columns = ("parent rss", "parent pss", "worker rss", "worker pss", "all pss")
    for heading in columns:
        table.add_column(heading, justify="right")
    for title in dict.fromkeys(key.rsplit(" ", 2)[0] for key in memory):
        table.add_row(title, *(f"{memory[f'{title} {column}'] / 1e6:.1f}" for column in columns))
    return table

"""The end of a cycle on one screen: how good, whether accepted, how long, and where to go next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from volvox.cli.stage_lines import clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from volvox.records import ClassScore, Cycle, Image, Verdict

_CLASSES = 12
_BAR = 24
_ATTEMPTS = 5
_EIGHTHS = " ▏▎▍▌▋▊▉"
_TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "top5_accuracy": "top-5",
    "calibration_error": "calibration error",
}


def orchestration_seconds(cycle: Cycle, wall_seconds: float) -> float:
    """Wall time less the stages' own work: starting, waiting for services, bookkeeping."""
    return max(0.0, wall_seconds - sum(stage.work_seconds for stage in cycle.stages))


def as_json(cycle: Cycle, wall_seconds: float) -> dict[str, Any]:
    """The record of the cycle with its times, for programs."""
    return {
        **cycle.model_dump(mode="json"),
        "wall_seconds": round(wall_seconds, 3),
        "orchestration_seconds": round(orchestration_seconds(cycle, wall_seconds), 3),
    }


def curl_line(cycle: Cycle) -> str:
    """A line that asks the served model when it is pasted into a shell, or empty where nothing is served."""
    if cycle.service is None:
        return ""
    arguments = cycle.service.module_description.get("predict") or []
    names = [told["name"] for told in arguments if told.get("type") == "file"] or ["image"]
    example = cycle.links.get("example", "")
    file = unquote(example.removeprefix("file://")) or "PATH_TO_AN_IMAGE"
    return f"curl -F {shlex.quote(f'{names[0]}=@{file}')} {shlex.quote(cycle.service.predict_url)}"


def end_screen(cycle: Cycle, wall_seconds: float, console: Console | None = None) -> None:
    """Print one screen, at most 40 lines of 100 columns, on standard output (or `console`)."""
    from rich.console import Console

    console = console or Console(highlight=False)
    if not console.is_terminal and console.width < 100:
        console.width = 100  # a log has no width; links must not be broken
    plain = not console.encoding.lower().startswith("utf")
    # Nothing is wrapped but the two sentences that may be long: a link that is broken cannot be clicked.
    console.print()
    console.print(_heading(cycle))
    console.print(_scores(cycle, plain))
    console.print()
    console.print(_verdict(cycle, plain))
    if len(cycle.attempts) > 1:
        console.print(_attempts(cycle, plain))
    console.print()
    console.print(_times(cycle, wall_seconds))
    console.print()
    for title, value in _places(cycle):
        console.print(_pair(title, value), soft_wrap=True)


def _heading(cycle: Cycle) -> Text:
    from rich.text import Text

    dataset = cycle.dataset
    parts = f"{dataset.total('train')} training, {dataset.total('val')} validation, {dataset.total('test')} test"
    left = f", {dataset.rejected_total} left out" if dataset.rejected_total else ""
    version = f" version {cycle.version.version}" if cycle.version else ""
    told = f"   {len(dataset.classes)} classes, images: {parts}{left}"
    return Text.assemble((f"{cycle.name}{version}", "bold"), (told, "dim"))


def _scores(cycle: Cycle, plain: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    metrics = Text.assemble(("on images it never saw\n", "dim"))
    for name, title in _TITLES.items():
        if name in cycle.evaluation.metrics:
            metrics.append(f"{title:<18}").append(f"{cycle.evaluation.metrics[name]:.3f}\n", style="bold")
    metrics.append(f"{'images':<18}{cycle.evaluation.images}", style="dim")
    grid = Table.grid(padding=(0, 3))
    grid.add_row(metrics, _bars(cycle.evaluation.per_class, plain))
    return grid


def _bars(scores: tuple[ClassScore, ...], plain: bool) -> Text:
    """F1 of each class; where there are too many, the worst ones."""
    from rich.text import Text

    if not scores:
        return Text()
    shown = list(scores) if len(scores) <= _CLASSES else sorted(scores, key=lambda score: score.f1)[:_CLASSES]
    width = min(24, max(len(score.name) for score in shown))
    which = "each class" if len(shown) == len(scores) else f"the {len(shown)} worst of {len(scores)} classes"
    chart = Text.assemble((f"F1 of {which}", "dim"))
    for score in shown:
        colour = "green" if score.f1 >= 0.9 else "yellow" if score.f1 >= 0.7 else "red"
        name = score.name if len(score.name) <= width else score.name[: width - 1] + "."
        chart.append(f"\n{name:<{width}} ").append(bar(score.f1, _BAR, plain), style=colour)
        chart.append(f" {score.f1:.2f}").append(f"  of {score.support}", style="dim")
    return chart


def bar(value: float, width: int, plain: bool = False) -> str:
    """A bar for a value in [0, 1], `width` characters wide, drawn in eighths of a character where they can be shown."""
    value = min(1.0, max(0.0, value))
    if plain:
        return ("#" * round(value * width)).ljust(width, ".")
    whole, eighth = divmod(round(value * width * 8), 8)
    return ("█" * whole + (_EIGHTHS[eighth] if eighth else "")).ljust(width)


def _verdict(cycle: Cycle, plain: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    verdict = _decided(cycle)
    table = Table.grid(padding=(0, 1))
    if verdict is None:
        table.add_row(Text("gate      ", style="dim"), "not reached")
        return table
    word, mark = ("accepted", "✔") if verdict.accepted else ("refused", "✘")
    style = "bold green" if verdict.accepted else "bold red"
    told = Text(word if plain else f"{mark} {word}", style=style)
    table.add_row(Text("gate      ", style="dim"), told, verdict.reason)
    return table


def _decided(cycle: Cycle) -> Verdict | None:
    if cycle.version is not None:
        return cycle.version.verdict
    return cycle.attempts[-1].verdict if cycle.attempts else None


def _attempts(cycle: Cycle, plain: bool) -> Text:
    from rich.text import Text

    marks = ("ok", "no") if plain else ("✔", "✘")
    first = cycle.attempts[0].arguments
    skipped = max(0, len(cycle.attempts) - _ATTEMPTS)
    lines: list[Text] = [Text(f"({skipped} earlier attempts are in the record)", style="dim")] if skipped else []
    for position, attempt in list(enumerate(cycle.attempts))[skipped:]:
        given = {name: value for name, value in attempt.arguments.items() if not position or first.get(name) != value}
        told = ", ".join(f"{name}={value}" for name, value in given.items()) or "the same arguments"
        accepted = attempt.verdict.accepted
        lines.append(
            Text.assemble(
                (f"attempt {position + 1:<3}", "dim"),
                (marks[0] if accepted else marks[1], "green" if accepted else "red"),
                f" {attempt.verdict.metric} {attempt.verdict.value:.3f}  {told[:60]}",
            )
        )
    return Text("\n").join(lines)


def _times(cycle: Cycle, wall_seconds: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    cells: list[Text] = []
    for stage in cycle.stages:
        after = (" reused", "italic dim") if stage.reused else ("", "")
        cells.append(Text.assemble((f"{stage.stage:<13}", "dim"), f"{clock(stage.seconds):>7}", after))
    rows = (len(cells) + 2) // 3
    for row in range(rows):
        table.add_row(*cells[row::rows])
    told = Text.assemble(
        ("in all       ", "dim"),
        (f"{clock(wall_seconds):>7}", "bold"),
        (f"   of which orchestration {clock(orchestration_seconds(cycle, wall_seconds))}", "dim"),
        ("   nothing was new: every stage is reused" if cycle.reused else "", "italic"),
    )
    whole = Table.grid()
    whole.add_row(table)
    whole.add_row(told)
    if cycle.model.foreseen and any(stage.stage == "training" and not stage.reused for stage in cycle.stages):
        from volvox.pools.cost import compared

        whole.add_row(Text.assemble(("training     ", "dim"), compared(cycle.model)))
    return whole


def _places(cycle: Cycle) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    pools: dict[str, list[str]] = {}
    for stage in cycle.stages:
        if stage.place and stage.stage not in pools.setdefault(stage.place, []):  # a second attempt says it again
            pools[stage.place].append(stage.stage)
    if pools:
        found.append(("on pools", "; ".join(f"{pool}: {', '.join(stages)}" for pool, stages in pools.items())))
    if cycle.image is not None:
        found.append(("image", _image(cycle.image)))
    if cycle.service is not None:
        found.append(("try it", cycle.service.try_url))
        found.append(("ask it", curl_line(cycle)))
    found += [(title, url) for title, url in cycle.links.items() if title not in ("example", "try it")]
    return found


def _image(image: Image) -> str:
    if not image.built:
        return f"not built: {image.reason}" if image.reason else "not built"
    pushed = f", pushed to {image.pushed}" if image.pushed else ""
    return f"{image.name}, {image.bytes / 1e6:.0f} MB, built in {clock(image.seconds)}{pushed}"


def _pair(title: str, value: str) -> Text:
    from rich.text import Text

    link = f"link {value}" if value.startswith("http") else ""
    return Text.assemble((f"{title:<11}", "dim"), (value, link))

"""What a cycle did, for whoever looks at its run in Prefect: a line of its log, and a page among its artifacts."""

from __future__ import annotations

import asyncio
import contextlib
import re

from volvox.pools.cost import compared
from volvox.records import Cycle
from volvox.settings import Home

_SHOW_SECONDS = 3.0
NOTHING_NEW = "nothing was new: every stage was found done already"


async def show(made: Cycle) -> None:
    """Tell what was done, what was reused, and where it is; a server that does not answer stops nothing."""
    from prefect.artifacts import acreate_markdown_artifact
    from prefect.context import FlowRunContext
    from prefect.logging import get_run_logger

    from flows.local import links

    if FlowRunContext.get() is None:
        return
    get_run_logger().info("%s: %s", made.name, in_a_sentence(made))
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_SHOW_SECONDS):
            made = made.model_copy(update={"links": await asyncio.to_thread(links, made, Home.current())})
            await acreate_markdown_artifact(
                as_markdown(made), key=artifact_key(made.name), description=in_a_sentence(made).capitalize()
            )


def artifact_key(name: str) -> str:
    """The key of a cycle's page; Prefect allows lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"cycle-{name}".lower()).strip("-")


def in_a_sentence(made: Cycle) -> str:
    """What was done and what was not."""
    if made.reused:
        return NOTHING_NEW
    new = list(dict.fromkeys(stage.stage for stage in made.stages if not stage.reused))
    old = [name for name in dict.fromkeys(stage.stage for stage in made.stages) if name not in new]
    return f"new: {', '.join(new) or 'nothing'}" + (f"; found done already: {', '.join(old)}" if old else "")


def as_markdown(made: Cycle) -> str:
    """The page."""
    version = f", version {made.version.version}" if made.version else ": no new version"
    lines = [f"## {made.name}{version}", "", f"{in_a_sentence(made).capitalize()}.", ""]
    if verdict := made.version.verdict if made.version else made.attempts[-1].verdict if made.attempts else None:
        lines += [f"Gate: {'accepted' if verdict.accepted else '**refused**'}. {verdict.reason}", ""]
    lines += ["| stage | | where | seconds |", "|---|---|---|--:|"]
    lines += [
        f"| {stage.stage} | {'reused' if stage.reused else 'run'} | {stage.place or 'in this run'} "
        f"| {stage.seconds:.1f} |"
        for stage in made.stages
    ]
    if any(stage.stage == "training" and not stage.reused for stage in made.stages) and made.model.cost is not None:
        lines += ["", f"The training took {compared(made.model)}."]
    scores = made.evaluation.metrics
    lines += ["", "| on held-out images | |", "|---|--:|", *(f"| {name} | {scores[name]:.3f} |" for name in scores)]
    found = {"try it": made.service.try_url} if made.service else {}
    found |= {title: url for title, url in made.links.items() if url.startswith("http")}
    lines += ["", *(f"- [{title}]({url})" for title, url in found.items())]
    return "\n".join(lines) + "\n"

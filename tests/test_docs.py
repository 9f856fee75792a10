"""README and docs say what is true: their commands exist, their paths are there, their keys are in the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from volvox.cli.main import listed, load

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:\.venv/bin/|`|^)volvox ([a-z][^`#\n]+)", re.MULTILINE)


def _commands() -> list[tuple[str, str]]:
    return [(page.name, line.strip()) for page in PAGES for line in COMMAND.findall(page.read_text())]


def test_the_pages_show_commands() -> None:
    assert len(_commands()) >= 6


@pytest.mark.parametrize(("page", "line"), _commands())
def test_every_command_that_is_shown_can_be_typed(page: str, line: str, home) -> None:
    name, *words = [word for word in shlex.split(line) if word not in ("...", "--help")]
    assert name in listed(), f"{page} shows `volvox {line}`"
    command = load(name)
    with click.Context(click.Group("volvox")) as parent:
        command.make_context(name, words, parent=parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = re.findall(
        r"`((?:\.ci|benchmarks|blocks|deployments|docs|flows|model_modules|tasks|tests|volvox)/[\w./-]*)`", text
    )
    assert paths
    missing = [name for name in links if not (page.parent / name).exists()]
    missing += [name for name in paths if not (ROOT / name).exists()]
    assert missing == []


def test_every_target_of_make_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {target for page in PAGES for target in re.findall(r"make ([a-z]+)", page.read_text())}
    assert shown
    assert shown <= targets

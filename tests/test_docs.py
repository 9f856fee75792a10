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


def test_the_servers_that_are_shown_start_with_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `volvox serve` of the page, up to the port: the modules are found, the options understood."""
    from volvox.errors import Unavailable
    from volvox.serving import running

    _modules_of_the_page(tmp_path, monkeypatch)
    opened: list[str] = []

    def bind(host: str, port: int) -> None:
        opened.append(f"{host}:{port}")
        raise Unavailable("far enough")

    monkeypatch.setattr(running, "_bind", bind)
    lines = [line for page, line in _commands() if page == "serving.md" and line.startswith("serve")]
    assert len(lines) >= 6
    for line in lines:
        with pytest.raises(Unavailable, match="far enough"):
            load("serve").main(shlex.split(line, comments=True)[1:], standalone_mode=False)
    assert len(opened) == len(lines)


def test_the_commands_of_deepaas_that_are_shown_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    from volvox.deepaas import cli, predict
    from volvox.serving import commands

    text = (ROOT / "docs" / "serving.md").read_text()
    shown = [shlex.split(line) for line in re.findall(r"^deepaas-\w+ .*", text, re.MULTILINE)]
    assert {line[0] for line in shown} == {"deepaas-run", "deepaas-cli", "deepaas-predict"}
    for name, *words in shown:
        if name == "deepaas-run":
            commands.serve.make_context(name, words)
        elif name == "deepaas-predict":
            predict._options().parse_args(words)
        else:
            before, method, _ = cli._split(words)
            assert cli._options().parse_args(before)
            assert method in cli.METHODS


def _modules_of_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from volvox.modules import interpreter

    for place, points in (("my-module", ("my_module",)), ("several", ("first", "second"))):
        (folder / place / "my_package").mkdir(parents=True)
        (folder / place / "my_package" / "api.py").touch()
        listed_points = "\n".join(f'{point} = "my_package.api"' for point in points)
        (folder / place / "pyproject.toml").write_text(f'[project.entry-points."deepaas.v2.model"]\n{listed_points}\n')
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DEEPAAS_V2_MODEL", raising=False)
    installed = {"image_classifier": "image_classifier.api"}
    there = {"": installed, "my-module/.venv/bin/python": {"my_module": "my_package.api"}}
    monkeypatch.setattr(interpreter, "inspect", lambda python: interpreter.Interpreter(python, there[python]))

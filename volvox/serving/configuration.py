"""Options from files as DEEPaaS reads them: INI, section `[DEFAULT]`, the last file that names an option wins."""

from __future__ import annotations

import configparser
from collections.abc import Sequence
from pathlib import Path

import click

from volvox.errors import InvalidInput

_LISTS = ("module", "name")


def read(files: Sequence[Path], folders: Sequence[Path] = ()) -> dict[str, object]:
    """Option -> value, names with `_`; folders are read after the files, each one's `*.conf` in order.

    Raises:
        InvalidInput: If a file cannot be read.
    """
    found: dict[str, object] = {}
    for path in [*files, *(path for folder in folders for path in sorted(folder.glob("*.conf")))]:
        told = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            told.read_string(path.read_text(), str(path))
        except (OSError, ValueError, configparser.Error) as error:
            why = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InvalidInput(f"the configuration {path} cannot be read: {why}; it is INI with [DEFAULT]") from error
        for name, value in told.defaults().items():
            option = name.replace("-", "_")
            found[option] = [part.strip() for part in value.split(",")] if option in _LISTS else value
    return found


def default_files(program: str) -> list[Path]:
    """The files that DEEPaaS reads where none is named: `deepaas.conf`, and the program's own."""
    places = [Path.home() / ".deepaas", Path.home(), Path("/etc/deepaas"), Path("/etc")]
    found = [
        next((folder / f"{name}.conf" for folder in places if (folder / f"{name}.conf").is_file()), None)
        for name in ("deepaas", program)
    ]
    return [path for path in found if path is not None]


def take(ctx: click.Context, parameter: click.Parameter, value: Sequence[Path]) -> Sequence[Path]:
    """Callback of `--config-file` and `--config-dir`: what they say counts where the command line says nothing."""
    asked = ctx.meta.setdefault(__name__, {})
    asked[parameter.name] = value
    told = read(asked.get("config_file", ()), asked.get("config_dir", ()))
    known = {option.name for option in ctx.command.params}
    ctx.default_map = {**(ctx.default_map or {}), **{name: told[name] for name in told if name in known}}
    return value

"""`deepaas-run`: `volvox serve` with DEEPaaS's defaults."""

from __future__ import annotations

import sys
from typing import NoReturn

from volvox.cli.main import guarded
from volvox.deepaas import COMPATIBLE


def run(arguments: list[str]) -> int:
    """Serve until a signal ends it; the exit code."""
    if "--version" in arguments:
        print(COMPATIBLE)
        return 0

    def serve() -> object:
        from volvox.serving import commands, configuration

        asked = any(word.startswith(("--config-file", "--config-dir")) for word in arguments)
        defaults = {
            "client_max_size": 0,
            **({} if asked else configuration.read(configuration.default_files("deepaas-run"))),
        }
        known = {option.name for option in commands.serve.params}
        defaults = {name: value for name, value in defaults.items() if name in known}
        return commands.serve.main(
            arguments, prog_name="deepaas-run", standalone_mode=False, default_map=defaults,
            help_option_names=["-h", "--help"],
        )  # fmt: skip

    return guarded(serve, debug=bool({"--debug", "-d"} & set(arguments)))


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))

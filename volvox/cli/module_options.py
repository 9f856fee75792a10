"""Command line options made from what a module says of its training arguments."""

from __future__ import annotations

import asyncio
from typing import Any

import click

_TYPES: dict[str, click.ParamType] = {"integer": click.INT, "number": click.FLOAT}
_PREFIX = "module_argument_"
_MODULE = "module_of_arguments"


class ModuleCommand(click.Command):
    """A command with an option `--module`; the training arguments of that module are options too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the module's options before the line is parsed, so that `--help` and mistakes know them."""
        module = _value_of(args, "--module") or next(
            str(option.default) for option in self.params if option.name == "module"
        )
        own = [option for option in self.params if not str(option.name).startswith(_PREFIX)]
        taken = {flag for option in own for flag in [*option.opts, *option.secondary_opts]}
        offered = [told for told in _described(module) if told["type"] != "file"]
        self.params = own + [_option(told, f"{_PREFIX}{place}", module, taken) for place, told in enumerate(offered)]
        ctx.meta[_MODULE] = module
        ctx.meta[_PREFIX] = [told["name"] for told in offered]  # a wire name may be no Python name
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the command's own options and the module's apart."""
        rows: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for option in self.get_params(ctx):
            if (row := option.get_help_record(ctx)) is not None:
                rows[str(option.name).startswith(_PREFIX)].append(row)
        for of_module, title in ((False, "Options"), (True, f"Training arguments of {ctx.meta[_MODULE]}")):
            if rows[of_module]:
                with formatter.section(title):
                    formatter.write_dl(rows[of_module])

    def invoke(self, ctx: click.Context) -> Any:
        """Collect what was given for the module under the parameter `arguments`, by wire name."""
        given = [(name, ctx.params.pop(f"{_PREFIX}{place}", None)) for place, name in enumerate(ctx.meta[_PREFIX])]
        ctx.params["arguments"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given
            if value is not None and value != ()
        }
        return super().invoke(ctx)


def _value_of(args: list[str], flag: str) -> str | None:
    for position, word in enumerate(args):
        if word == flag and position + 1 < len(args):
            return args[position + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def _described(module: str) -> list[dict[str, Any]]:
    from volvox.modules import calling, discovery
    from volvox.settings import Home

    return asyncio.run(calling.describe(discovery.find(module), Home.current().ensure()))["train"]


def _option(told: dict[str, Any], name: str, module: str, taken: set[str]) -> click.Option:
    flag = told["name"].replace("_", "-").lower()
    if f"--{flag}" in taken:
        flag = f"{module.replace('_', '-')}-{flag}"
    text = " ".join(filter(None, [told["help"], _limits(told), _default(told)]))
    if told["type"] == "boolean":
        return click.Option([name, f"--{flag}/--no-{flag}"], default=None, help=text)
    many = told["type"] == "array"
    kind: click.ParamType = _TYPES.get(told.get("items", "") if many else told["type"], click.STRING)
    if told.get("choices") and kind is click.STRING:
        kind = click.Choice([str(choice) for choice in told["choices"]])
    return click.Option([name, f"--{flag}"], default=None, type=kind, multiple=many, help=text)


def _limits(told: dict[str, Any]) -> str:
    low, high = told.get("minimum"), told.get("maximum")
    if low is None and high is None:
        return ""
    return f"[{'' if low is None else low}..{'' if high is None else high}]"


def _default(told: dict[str, Any]) -> str:
    return f"[default: {told['default']}]" if told.get("default") not in (None, "", []) else ""

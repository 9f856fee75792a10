"""`volvox functions`: define functions, look at them, go back to an earlier version, write them as files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volvox.errors import InvalidInput
from volvox.settings import Home

if TYPE_CHECKING:
    from volvox.functions.definition import Function
    from volvox.functions.registry import Change
    from volvox.pricing.choice import Choice

_MISSING = 4
_RUNTIMES = ("auto", "local", "docker", "flow", "kubernetes", "lambda", "batch", "lambda-batch", "ecs", "oscar")
_MANIFESTS = ("knative", "kserve", "oscar-job")
_FORMS = ("volvox", "scar", "oscar", *_MANIFESTS)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.group()
def functions() -> None:
    """Models, and images with a script, that answer the files dropped in a place.

    \b
    A file of three lines is a function:
      model: digits
      runtime: local
      places: {in: ~/drop, out: ~/answers}

    `volvox functions apply FILE` defines it. SCAR's and OSCAR's files are taken as they are.
    """  # noqa: D301 - click wants the backspace itself


@functions.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--on", "runtime", type=click.Choice(_RUNTIMES), metavar="RUNTIME",
              help=f"Run them there, whatever the files say: {', '.join(_RUNTIMES)}.")  # fmt: skip
@_dry_run
@_json
def apply(files: tuple[Path, ...], runtime: str | None, dry_run: bool, as_json: bool) -> None:
    """Define the functions of FILE, or change them.

    A second time nothing changes. FILE is YAML in Volvox's own form, in SCAR's (functions: aws:) or in OSCAR's
    (functions: oscar:). Keys that do nothing here are kept and told. With --dry-run nothing is needed and nothing is
    done: what could not be seen, a script, an image, a bucket, is told. Exit code 2 if a file is wrong, or a script or
    model that it names is not there.

    \b
    Examples:
      volvox functions apply digits.yaml
      volvox functions apply scar-darknet.yaml --dry-run
      volvox functions apply scar-darknet.yaml --on docker
    """  # noqa: D301 - click wants the backspace itself
    from volvox.functions.applying import apply_files

    home = Home.current()
    made = apply_files(home, files, on=runtime or "", dry_run=dry_run)
    if as_json:
        _print_changes(
            made.changes, dry_run, warnings=made.warnings, folders=[str(path) for path in made.folders],
            choices=_choice_values(home, made.functions),
        )  # fmt: skip
        return
    _warn(made.warnings)
    _tell(made.changes, dry_run)
    changed = {change.name for change in made.changes if change.kind != "unchanged"}
    _tell_choices(home, [function for function in made.functions if function.name in changed])
    for path in made.folders:
        click.echo(f"made the folder {path}")
    if not dry_run and any(change.kind != "unchanged" for change in made.changes) and not _dispatched():
        click.echo("nothing answers yet: `volvox up` starts what does", err=True)


def _dispatched() -> bool:
    """Whether the process runs that has files answered."""
    from volvox.stack import state

    found = state.read(Home.current(), "functions")
    return found is not None and found.alive


@functions.command("list")
@_json
def listing(as_json: bool) -> None:
    """List the functions, their places and versions."""
    from volvox.functions import registry
    from volvox.functions.table import TITLES, as_values, row

    found = registry.functions(Home.current())
    if as_json:
        click.echo(json.dumps([as_values(each) for each in found.values()], indent=2))
        return
    if not found:
        click.echo("there is no function; `volvox functions apply FILE` makes one")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in TITLES:
        table.add_column(title, overflow="fold")
    for each in found.values():
        table.add_row(*row(each))
    Console(width=None if Console().is_terminal else 1000, markup=False).print(table)


@functions.command()
@click.argument("name")
@click.option("--version", "version", default="", help="Another version than the active one, or its beginning.")
@_json
def show(name: str, version: str, as_json: bool) -> None:
    """Show a function as a definition file.

    It could be applied again. Before it, as comments: its version and the others, the file it was read from, the
    functions that feed it and that it feeds, and what the model's metadata fills in.
    """
    from volvox.functions import registry
    from volvox.functions.chains import links
    from volvox.functions.table import as_values, comments, time_of
    from volvox.functions.writing import written

    home = Home.current()
    found = registry.get(home, name, version)
    others = registry.versions(home, name)
    known = {each.function.name: each.function for each in registry.functions(home).values()} | {name: found.function}
    chain = links(known.values())
    before = [link for link in chain if link.target == name and link.source != name]
    after = [link for link in chain if link.source == name and link.target != name]
    if as_json:
        told = {
            **as_values(found),
            "versions": [{"version": one.version, "applied": time_of(one.applied), "source": one.source,
                          "active": one.active} for one in others],
            "fed_by": sorted({link.source for link in before}),
            "feeds": sorted({link.target for link in after}),
            "choice": _choice_values(home, [found.function]).get(name),
        }  # fmt: skip
        click.echo(json.dumps(told, indent=2))
        return
    text, warnings = written([found.function])
    click.echo(comments(found, others, before, after) + text, nl=False)
    _tell_choices(home, [found.function], prefix="# ")
    _warn(warnings)


@functions.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--with-data", is_flag=True, help="Remove the buckets too that were made for it, with all that is in them."
)
@_dry_run
@_json
def remove(name: str, yes: bool, with_data: bool, dry_run: bool, as_json: bool) -> None:
    """Forget a function; its files stay.

    Its versions go too. What lies in its input and output places is not touched, unless --with-data says so: then the
    buckets go that applying it has made on AWS. Those that were there before stay in any case.
    """
    from volvox.functions import data, registry

    home = Home.current()
    found = registry.get(home, name).function  # a wrong name is told before anybody is asked
    made = data.made_for(found, home) if with_data else []
    if dry_run and not as_json:
        for one in made:
            click.echo(f"{one} would be removed with all that is in it")
    if not yes and not dry_run:
        if not sys.stdin.isatty():
            raise InvalidInput(f"nobody can be asked whether to remove {name!r}; say --yes")
        goes = f"{' and '.join(made)} and all that is in it goes" if made else "What lies in its places stays"
        click.confirm(f"Remove function {name!r}? {goes}.", abort=True)
    if made and not dry_run:  # first, so that it can be done again if it is refused
        for one in data.made_for(found, home, remove=True):
            click.echo(f"removed {one} with all that was in it", err=as_json)
    change = registry.remove(home, name, dry_run=dry_run)
    _print_changes([change], dry_run) if as_json else _tell([change], dry_run)


@functions.command()
@click.argument("name")
@click.argument("version", required=False, default="")
@_dry_run
@_json
def rollback(name: str, version: str, dry_run: bool, as_json: bool) -> None:
    """Go back to the version before, or to VERSION.

    The beginning of VERSION will do. A second time it goes forward again. `volvox functions show NAME` lists the
    versions.
    """
    from volvox.functions import registry

    change = registry.activate(Home.current(), name, version, dry_run=dry_run)
    _print_changes([change], dry_run) if as_json else _tell([change], dry_run)


@functions.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--format", "form", type=click.Choice(_FORMS), default="volvox", show_default=True,
              metavar="FORM", help=f"Whose form the file has: {', '.join(_FORMS)}.")  # fmt: skip
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path),
              help="Write the file and its scripts into this folder; else it is printed, scripts in it.")  # fmt: skip
def export(names: tuple[str, ...], form: Any, folder: Path | None) -> None:
    """Write functions as a definition file.

    Reading it again gives the same functions. What a form cannot say is told as a warning. SCAR's and OSCAR's own
    tools want scripts as files: give --to. The forms knative, kserve and oscar-job are manifests of Kubernetes, for
    clusters that have these systems.

    \b
    Examples:
      volvox functions export digits > digits.yaml
      volvox functions export digits --format knative | kubectl apply -f -
      volvox functions export plants --format oscar --to for-the-cluster/
    """  # noqa: D301 - click wants the backspace itself
    from volvox.functions import registry
    from volvox.functions.writing import written

    home = Home.current()
    found = [registry.get(home, name).function for name in names]
    if form in _MANIFESTS:
        text, warnings = _manifests(found, form)
        if folder is None:
            click.echo(text, nl=False)
        else:
            _write_all(path := folder / f"{names[0] if len(names) == 1 else 'functions'}-{form}.yaml", text, [])
            click.echo(f"wrote {path}")
        _warn(warnings)
        return
    text, warnings = written(found, form, script=(lambda function: f"{function.name}.sh") if folder else None)
    if folder is None:
        click.echo(text, nl=False)
    else:
        path = folder / f"{names[0] if len(names) == 1 else 'functions'}.yaml"
        _write_all(path, text, found)
        click.echo(f"wrote {path}")
    if not folder and form != "volvox" and any(function.script for function in found):
        warnings.append(
            f"the script stands in the file, where tools of {form.upper()} want its path; --to FOLDER writes both"
        )
    _warn(warnings)


def _manifests(found: Sequence[Function], form: Any) -> tuple[str, list[str]]:
    from volvox.runtimes.models import published
    from volvox.runtimes.pods.exports import image_of, written

    models: Any = published() if any(function.model for function in found) else None
    told = [(function.name, *written(function, form, image_of(function, models))) for function in found]
    warnings = [f"{name}: {warning}" for name, _, unsaid in told for warning in unsaid]
    return "---\n".join(text for _, text, _ in told), warnings


@functions.command()
@click.argument("what", metavar="FILE|NAME")
@click.option("--repair", "mending", is_flag=True, help="Make again what its runtime has lost of it, or has otherwise.")
@_json
def check(what: str, mending: bool, as_json: bool) -> None:
    """Find out what is missing of a function.

    And how to mend it, before a job fails on it. FILE is looked at without defining anything; NAME is a function that
    is defined. With --repair, what was made for NAME on a cluster or on AWS and is gone or was changed is made again
    first. Exit code 4 if something is missing.
    """
    from volvox.functions import registry
    from volvox.functions.applying import look
    from volvox.functions.reading import read

    home = Home.current()
    if mending:
        from volvox.runtimes.checking import repair

        for told in repair(registry.get(home, what).filled, home):
            click.echo(f"repaired: {told}", err=as_json)
    if Path(what).suffix in (".yaml", ".yml") or Path(what).is_file():
        definitions = read(Path(what))
        found = {each.name: look(definitions, each, home, offline=False) for each in definitions.functions}
        warnings, functions = definitions.warnings, definitions.functions
    else:
        from volvox.functions.checks import findings

        functions = (registry.get(home, what).filled,)
        found, warnings = {what: list(findings(functions[0], home))}, ()
    looked = [finding for each in found.values() for finding in each]
    missing = [finding for finding in looked if finding.ok is False]
    if as_json:
        told = {name: [finding.values() for finding in each] for name, each in found.items()}
        choices = _choice_values(home, functions)
        page = {"ok": not missing, "functions": told, "warnings": list(warnings), "choices": choices}
        click.echo(json.dumps(page, indent=2))
    else:
        for name, each in found.items():
            click.echo(f"{name}:" if len(found) > 1 else "", nl=len(found) > 1)
            for finding in each:
                click.echo(finding.line())
        _warn(warnings)
        _tell_choices(home, functions)
        click.echo(f"{len(missing)} of {len(looked)} are missing" if missing else "nothing is missing")
    if missing:
        sys.exit(_MISSING)


def _warn(warnings: Iterable[str]) -> None:
    for told in warnings:
        click.echo(f"warning: {told}", err=True)


def _tell(changes: Sequence[Change], dry_run: bool) -> None:
    from volvox.functions.table import change_line

    for change in changes:
        click.echo(change_line(change, dry_run=dry_run))


def _tell_choices(home: Home, functions: Sequence[Function], prefix: str = "") -> None:
    """Where those go whose runtime is `auto`, and why."""
    from volvox.pricing.checks import choice_lines

    for name, choice in _choices(home, functions).items():
        for line in choice_lines(name, choice):
            click.echo(prefix + line)


def _choice_values(home: Home, functions: Sequence[Function]) -> dict[str, Any]:
    from volvox.pricing.choice import as_values

    return {name: as_values(choice) for name, choice in _choices(home, functions).items()}


def _choices(home: Home, functions: Sequence[Function]) -> dict[str, Choice]:
    from volvox.pricing.checks import choices

    try:
        return choices(home, *functions)
    except InvalidInput as error:  # of a file of prices or pools: what was asked is done all the same
        _warn([f"nobody can tell where it goes: {error}"])
        return {}


def _print_changes(changes: Sequence[Change], dry_run: bool, **more: Any) -> None:
    from volvox.functions.table import change_values

    told = {"changes": [change_values(change) for change in changes], "written": not dry_run, **more}
    click.echo(json.dumps(told, indent=2))


def _write_all(path: Path, text: str, found: list[Function]) -> None:
    from volvox.disks import telling_full_disks

    with telling_full_disks(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        for function in found:
            if function.script:
                script = path.parent / f"{function.name}.sh"
                script.write_text(function.script, encoding="utf-8", newline="")
                script.chmod(0o755)
        path.write_text(text, encoding="utf-8")


from volvox.dispatch.function_commands import invoke, logs, senders, warm  # noqa: E402 - they are thin, and of this group

for _one in (invoke, warm, logs, senders):
    functions.add_command(_one)

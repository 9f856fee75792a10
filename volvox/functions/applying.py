"""Apply definition files as a whole: read, look for what they name, refuse what is missing, register."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from volvox.errors import InvalidInput
from volvox.functions import registry
from volvox.functions.checks import Finding, findings, make_folders
from volvox.functions.definition import Function, RuntimeName
from volvox.functions.reading import Definitions, read
from volvox.functions.registry import Change
from volvox.settings import Home

# Of what nobody could tell: other rooms look at the rest again when an instance is started.
_WORTH_A_WARNING = ("credentials", "chain", "runtime", "bulk")
_TOLD_ELSEWHERE = ("script", "image file", "interpreter", "runtime")


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying files did, or would do.

    Attributes:
        functions: What the files define, in their order.
        changes: One for each of them.
        warnings: What their owner should know; after a dry run also what could not be seen.
        folders: Folders that were made.
    """

    functions: tuple[Function, ...]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    folders: tuple[Path, ...] = ()


def apply_files(home: Home, files: Sequence[Path], *, on: str = "", dry_run: bool = False) -> Applied:
    """Make the functions of several files the active ones of the home: all of them, or none.

    Args:
        home: Where; it is made if it is not there.
        files: Definition files.
        on: A runtime that goes before what the files say.
        dry_run: Whether to do nothing; no engine, server or credential is needed then.

    Raises:
        InvalidInput: If a file is wrong, a script, image file or model that it names is not there, or outputs lead back
            to inputs.
    """
    definitions = read_files(files, on=on)
    wanted = [(function, each) for each in definitions for function in each.functions]
    looked = [(function, look(each, function, home, offline=dry_run)) for function, each in wanted]
    warnings = [told for each in definitions for told in each.warnings]
    warnings += [
        f"{function.name}: {finding.name}: {finding.said}"
        for function, found in looked
        for finding in found
        if finding.ok is not True and (dry_run or finding.name in _WORTH_A_WARNING)
    ]
    warnings += _moved(home, [function for function, _ in wanted])
    functions, sources = [function for function, _ in wanted], [str(each.path) for _, each in wanted]
    changes = registry.apply_all(home, functions, source=sources, dry_run=True)
    folders: list[Path] = []
    if not dry_run:
        _refuse_missing(definitions, [finding for _, found in looked for finding in found])
        home.ensure()
        folders = [path for function in functions for path in make_folders(function)]
        changes = registry.apply_all(home, functions, source=sources)
    return Applied(tuple(functions), tuple(changes), tuple(dict.fromkeys(warnings)), tuple(folders))


def read_files(files: Sequence[Path], *, on: str = "") -> list[Definitions]:
    """Several definition files; a function is in one of them.

    Args:
        files: The files.
        on: A runtime that goes before what they say.

    Raises:
        InvalidInput: With the mistakes of all of them.
    """
    if on and on not in get_args(RuntimeName):
        raise InvalidInput(f"there is no runtime {on!r}; there are {', '.join(get_args(RuntimeName))}")
    found: list[Definitions] = []
    mistakes: list[str] = []
    seen: dict[str, Path] = {}
    for path in files:
        try:
            each = read(path)
        except InvalidInput as error:
            mistakes.append(str(error))
            continue
        for function in each.functions:
            if function.name in seen:
                other = seen[function.name]
                mistakes.append(f"function {function.name!r} is in {other} and in {each.path}; apply one of them")
            seen[function.name] = each.path
        if on:
            moved = tuple(Function.model_validate({**dict(one), "runtime": on}) for one in each.functions)
            each = replace(each, functions=moved)
        found.append(each)
    if mistakes:
        raise InvalidInput("\n".join(dict.fromkeys(mistakes)))
    return found


def look(definitions: Definitions, function: Function, home: Home, *, offline: bool) -> list[Finding]:
    """What is there and what is missing of a function that a file defines."""
    gone = [missing for missing in definitions.missing if missing.function == function.name]
    return list(findings(function, home, offline=offline, missing=gone))


def _moved(home: Home, wanted: Sequence[Function]) -> list[str]:
    """Services that take the place of one of the same name on another cluster."""
    present, told = registry.functions(home), []
    for function in wanted:
        before = present[function.name].function.settings.get("cluster_id") if function.name in present else None
        now = function.settings.get("cluster_id")
        if before and now and before != now:
            told.append(
                f"{function.name}: it takes the place of the one on cluster {before!r}; "
                "to have both, write them into one file, or give one another name"
            )
    return told


def _refuse_missing(definitions: Sequence[Definitions], found: Sequence[Finding]) -> None:
    """A folder that is not there is made; everything else that a definition names must be there."""
    reasons = [missing.message for each in definitions for missing in each.missing]
    reasons += [
        f"{finding.said}; {finding.mend}" if finding.mend else finding.said
        for finding in found
        if finding.ok is False and finding.name not in _TOLD_ELSEWHERE and not finding.made
    ]
    if reasons:
        raise InvalidInput("\n".join(dict.fromkeys(reasons)))

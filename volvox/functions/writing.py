"""Write functions as definition files: in Volvox's own form, in SCAR's, in OSCAR's.

Reading what was written gives the same functions. It is read again here, so that whatever a form cannot say is known,
and told as a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from volvox.errors import InvalidInput
from volvox.functions.definition import Function, Input, Output
from volvox.functions.locations import parts_of, shown
from volvox.functions.oscar_keys import SERVICE
from volvox.functions.quantities import cores_text, memory_text
from volvox.functions.reading import parse
from volvox.functions.scar_form import MODES
from volvox.functions.scar_keys import SIBLINGS
from volvox.functions.secrecy import is_reference, names_secret

Form = Literal["volvox", "scar", "oscar"]
Script = Callable[[Function], "str | None"]

_OWN_ORDER = ("name", "description", "origin", "model", "image", "script", "command", "runtime")
_TITLES: Mapping[Form, str] = {"volvox": "Volvox", "scar": "SCAR", "oscar": "OSCAR"}


def written(
    functions: Sequence[Function], form: Form = "volvox", *, script: Script | None = None
) -> tuple[str, list[str]]:
    """The text of a definition file, and what it does not say.

    Args:
        functions: What it defines.
        form: Whose words it uses.
        script: Gives the path that stands for a function's script; None: scripts stand in the file itself.

    Raises:
        InvalidInput: If that form cannot define one of them, a model in SCAR's form, say.
    """
    kept = [_without_secrets(function) for function in functions]
    warnings = [warning for _, told in kept for warning in told]
    plain = [function for function, _ in kept]
    if form == "volvox":
        told = ([_own(function, way) for function in plain] for way in (script, None))
        text, inline = (_dumped(each[0] if len(each) == 1 else {"functions": each}) for each in told)
    else:
        text, inline = (_dumped(_theirs(plain, form, way)) for way in (script, None))
    return text, warnings + _unsaid(plain, inline, form)


# -- Volvox's own -----------------------------------------------------------------------------------------------------


def _own(function: Function, script: Script | None) -> dict[str, Any]:
    stated = function.model_dump(mode="json", exclude_defaults=True)
    found: dict[str, Any] = {key: stated.pop(key) for key in _OWN_ORDER if key in stated}
    inputs, outputs = stated.pop("inputs", []), stated.pop("outputs", [])
    if places := {"in": _short(inputs), "out": _short(outputs)}:
        found |= {"places": {key: value for key, value in places.items() if value}} if inputs or outputs else {}
    if function.script:
        found["script"] = script(function) if script else _script_text(function.script)
    if bulk := stated.pop("bulk", None):
        stated["bulk"] = {"from": bulk.pop("least"), **bulk}
    return {**found, **stated}


def _short(places: list[dict[str, Any]]) -> Any:
    told = [shown(place["url"]) if set(place) == {"url"} else {**place, "url": shown(place["url"])} for place in places]
    return told[0] if len(told) == 1 else told


def _script_text(script: str) -> Any:
    """As the reader takes it for a script and not for the path of one."""
    stands = ("\n" in script.strip() or script.startswith("#!")) and "\r" not in script
    return script if stands else {"text": script}


# -- SCAR's and OSCAR's -----------------------------------------------------------------------------------------------


def _theirs(functions: Sequence[Function], form: Form, script: Script | None) -> dict[str, Any]:
    storage: dict[str, dict[str, Any]] = {}
    clusters: dict[str, Any] = {}
    items = []
    for function in functions:
        if not function.image:
            raise InvalidInput(
                f"function {function.name!r} is the model {function.model!r}, and {_TITLES[form]} knows images alone; "
                "its serving image, with a script, is what it could be there"
            )
        items.append(_lambda(function, script) if form == "scar" else _service(function, script))
        for name, told in _providers(function).items():
            kind, _, ident = name.partition(".")
            if kind == "clusters":
                clusters[ident] = told
            else:
                storage.setdefault(kind, {})[ident] = told
    found: dict[str, Any] = {"functions": {"aws" if form == "scar" else "oscar": items}}
    return found | ({"storage_providers": storage} if storage else {}) | ({"clusters": clusters} if clusters else {})


def _lambda(function: Function, script: Script | None) -> dict[str, Any]:
    settings = dict(function.settings)
    kept = dict(settings.pop("lambda", {})) if isinstance(settings.get("lambda", {}), dict) else {}
    container: dict[str, Any] = dict(kept.get("container", {}))
    if function.image.startswith("docker-archive:"):
        container["image_file"] = function.image.removeprefix("docker-archive:")
    else:
        container["image"] = function.image
    if function.environment:
        container["environment"] = {"Variables": dict(function.environment)}
    mode = function.runtime if function.runtime in MODES else ""
    memory = function.resources.memory_mb
    told: dict[str, Any] = {"name": settings.pop("name", function.name), "container": container}
    if function.description:
        told["description"] = function.description
    if mode:
        told["execution_mode"] = mode
    if mode != "batch" and memory is not None and 128 <= memory <= 10240:
        told["memory"] = memory
    if mode != "batch":
        told["timeout"] = min(900, max(1, int(function.timeout_seconds)))
    if function.script:
        told["init_script"] = script(function) if script else _block(function.script)
    told |= _their_places(function, "s3", kept)
    siblings = {key: value for key, value in settings.items() if key in SIBLINGS or function.origin == "scar"}
    siblings.pop("storage_providers", None)
    batch: dict[str, Any] = dict(siblings.pop("batch", {}))
    if mode == "batch" and memory is not None:
        batch["memory"] = memory
    if mode == "batch" and function.resources.cpu is not None and function.resources.cpu >= 1:
        batch["vcpus"] = int(function.resources.cpu)
    if mode in ("batch", "lambda-batch") and function.resources.gpus:
        batch["enable_gpu"] = True
    merged = {**told, **{key: value for key, value in kept.items() if key != "container"}}
    return {"lambda": merged, **({"batch": batch} if batch else {}), **siblings}


def _service(function: Function, script: Script | None) -> dict[str, Any]:
    resources, settings = function.resources, dict(function.settings)
    cluster = str(settings.pop("cluster_id", "") or "default")
    settings.pop("storage_providers", None)
    told: dict[str, Any] = {"name": settings.pop("name", function.name), "image": function.image}
    if function.script:
        told["script"] = script(function) if script else _block(function.script)
    if resources.memory_mb is not None and resources.memory_mb >= 4:
        told["memory"] = memory_text(resources.memory_mb)
    if resources.cpu is not None:
        told["cpu"] = cores_text(resources.cpu)
    if resources.gpus:
        told["enable_gpu"] = True
    if resources.storage_mb is not None and resources.storage_mb >= 4:
        told["ephemeral_storage_request"] = memory_text(resources.storage_mb)
    if (function.scaling.min_scale, function.scaling.max_scale) != (0, 1):
        told["synchronous"] = {"min_scale": function.scaling.min_scale, "max_scale": function.scaling.max_scale}
    if not function.fetches:
        told["file_stage_in"] = True
    if function.environment:
        told["environment"] = {"Variables": dict(function.environment)}
    told |= _their_places(function, "minio", settings)
    told |= {key: value for key, value in settings.items() if key in SERVICE or function.origin == "oscar"}
    return {cluster: told}


def _their_places(function: Function, kind: str, kept: dict[str, Any]) -> dict[str, Any]:
    """Places of ours, and those that were `kept` as the file said them."""
    told: dict[str, Any] = {}
    for key, places in (("input", function.inputs), ("output", function.outputs)):
        elsewhere = kept.pop(key, [])
        found = [each for place in places if (each := _their_place(place, kind))]
        found += elsewhere if isinstance(elsewhere, list) else [elsewhere]
        if found:
            told[key] = found
    return told


def _their_place(place: Input | Output, kind: str) -> dict[str, Any] | None:
    parts = parts_of(place.url)
    provider, path = place.provider, parts.folder
    if parts.kind == "s3":
        provider, path = provider or f"{kind}.default", f"{parts.name}/{parts.folder}"
    elif parts.kind == "directory" or not provider:
        return None
    told: dict[str, Any] = {"storage_provider": provider, "path": path.strip("/")}
    told |= {key: list(words) for key in ("prefix", "suffix") if (words := getattr(place, key))}
    return told


def _providers(function: Function) -> dict[str, Any]:
    """Of each provider what is no secret, and where its secrets stand."""
    described = function.settings.get("storage_providers", {})
    found: dict[str, Any] = {}
    for name in sorted({*described, *function.providers} if isinstance(described, dict) else function.providers):
        reference = function.providers.get(name)
        told = dict(described.get(name, {})) if isinstance(described, dict) else {}
        found[name] = (
            reference if reference and not told else {**told, **({"credentials": reference} if reference else {})}
        )
    return found


# -- all --------------------------------------------------------------------------------------------------------------


def _without_secrets(function: Function) -> tuple[Function, list[str]]:
    """A secret that somebody kept in plain text all the same is not written."""
    told = function.environment.items()
    plain = [name for name, value in told if value and names_secret(name) and not is_reference(value)]
    if not plain:
        return function, []
    kept = {name: value for name, value in told if name not in plain}
    left_out = [f"{function.name}: environment.{name} looks like a secret and is left out" for name in plain]
    return function.model_copy(update={"environment": kept}), left_out


def _unsaid(functions: Sequence[Function], text: str, form: Form) -> list[str]:
    """What reading the text again would give otherwise."""
    try:
        again = parse(text, Path("/nowhere.yaml")).functions
    except InvalidInput as error:
        reasons = str(error).replace("/nowhere.yaml:", "line ")
        raise InvalidInput(f"that cannot be written in {_TITLES[form]}'s form: {reasons}") from error
    warnings = []
    for function, read in zip(functions, again, strict=True):
        for field in Function.model_fields:
            if field != "origin" and _differs(getattr(function, field), getattr(read, field), field, form):
                told = _told(getattr(read, field))
                warnings.append(
                    f"{function.name}: {_TITLES[form]}'s form cannot say its {field}; read again it is {told}"
                )
    return warnings


def _differs(one: Any, other: Any, field: str, form: Form) -> bool:
    if field in ("inputs", "outputs") and form != "volvox":
        # Which credentials are meant is always said there: the default ones where nothing else is.
        one = [place.model_copy(update={"provider": place.provider or _default(form)}) for place in one]
        return one != list(other)
    return one != other


def _default(form: Form) -> str:
    return "s3.default" if form == "scar" else "minio.default"


def _told(value: Any) -> str:
    parts = [
        each.model_dump(mode="json", exclude_defaults=True) if isinstance(each, BaseModel) else each
        for each in (value if isinstance(value, tuple) else (value,))
    ]
    plain = parts if isinstance(value, tuple) else parts[0]
    text = repr(plain) if plain or isinstance(plain, int | float) else "empty"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _block(script: str) -> str:
    """A script that stands in the file is told from a path by its line's end."""
    return script if "\n" in script.strip() or script.startswith("#!") else f"#!/bin/sh\n{script}"


class _Dumper(yaml.SafeDumper):
    """Scripts and other texts of several lines as blocks, everything else as PyYAML does."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as PyYAML calls it
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dumped(value: Any) -> str:
    text = ""
    for readable in (True, False):  # some characters that YAML takes for a line's end survive only as escapes
        text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=readable, width=10_000)
        if yaml.safe_load(text) == value:
            break
    return text

"""The services of a function in an OSCAR cluster, as the bodies of its API.

A script has one service, which is called as the function. A model has one for each version, exposed over HTTP, so that
the version before answers until the new one has been proved. Both carry labels: whose they are, of which function, of
which version.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from volvox.functions.definition import Function
from volvox.functions.oscar_keys import READ_ONLY, SERVICE
from volvox.functions.writing import written
from volvox.identity import digest_of
from volvox.packaging.context import PORT
from volvox.runtimes.oscar_cluster import program
from volvox.runtimes.oscar_cluster.settings import OscarSettings
from volvox.runtimes.pods.drift import differs as anywhere_differs
from volvox.runtimes.pods.manifests import DEFINITION, FUNCTION, NAME, OWNER, VERSION, labels

SERVICES = "/system/services"
_LONGEST_NAME = 39
_SERVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def script_name(function: Function) -> str:
    """The name of a script's service: the function's, where OSCAR can have it."""
    stated = OscarSettings.of(function).name
    if stated or (len(function.name) <= _LONGEST_NAME and _SERVICE_NAME.fullmatch(function.name)):
        return stated or function.name
    return f"{_readable(function, 30)}-{digest_of(['service', function.name])[:8]}"


def model_name(function: Function, owner: str, label: str) -> str:
    """The name of the service of one version of a model."""
    stated = OscarSettings.of(function).name[:30].strip("-")
    return f"{stated or _readable(function, 30)}-{digest_of(['service', owner, function.name, label])[:8]}"


def bucket_of(service: str) -> str:
    """The bucket of a service that files of calls go through."""
    return f"volvox-{service}"


def path_of(service: str) -> str:
    """The route of a service."""
    return f"{SERVICES}/{service}"


def of_script(function: Function, *, owner: str) -> dict[str, Any]:
    """The service of a script, which answers the dispatcher's calls and any other event of OSCAR's."""
    name = script_name(function)
    own = program.own_part(function.script, function.command)
    body = _service(function, name, function.image, program.script(own), labels(owner, function.name, "script", "call"))
    body["output"] = [
        {"storage_provider": "minio.default", "path": f"{bucket_of(name)}/{program.OUT}", "prefix": [program.MARK]}
    ]
    return body


def of_model(function: Function, image: str, *, owner: str, label: str, title: str, instances: int) -> dict[str, Any]:
    """The service of one version of a model: its server, exposed; any event of OSCAR's is put to the model too."""
    name = model_name(function, owner, label)
    carried = labels(owner, function.name, "instance", label)
    body = _service(function, name, image, program.of_model(title, function), carried)
    body.pop("synchronous", None)
    most = function.scaling.max_scale
    stated = function.settings.get("expose")
    body["expose"] = {
        **(stated if isinstance(stated, dict) else {}),
        "api_port": [PORT],
        "min_scale": max(1, min(instances, most)),
        "max_scale": most,
        "rewrite_target": True,
        "default_command": False,
        "set_auth": True,
        "health_path": "/health/live",
    }
    return body


def differs(should: dict[str, Any], there: dict[str, Any], *, scale: bool = True) -> str:
    """Where a service is not as it should be; empty if it is. What a cluster adds, and hides, counts for nothing.

    Args:
        should: As it should be.
        there: As the cluster has it.
        scale: Whether the least number of instances counts, which changes with what calls need.
    """
    shown = {key: value for key, value in should.items() if key != "storage_providers"}
    if not scale and "expose" in shown:
        shown["expose"] = {key: value for key, value in shown["expose"].items() if key != "min_scale"}
    return anywhere_differs(_plain(shown), _plain(there))


def other_buckets(there: dict[str, Any]) -> set[str]:
    """The buckets that would be deleted with a service and are not the one of its calls."""
    paths = [str(one.get("path") or "").strip(" /") for key in ("input", "output") for one in there.get(key) or ()]
    named = {path.partition("/")[0] if "/" in path else str(there["name"]) for path in paths}
    listed = {str(one.get("bucket_name") if isinstance(one, dict) else one) for one in there.get("bucket_list") or ()}
    return (named | listed) - {bucket_of(there["name"])}


def without_other_buckets(there: dict[str, Any]) -> dict[str, Any]:
    """A service as it is, without those."""
    ours = f"{bucket_of(there['name'])}/"
    kept = {
        key: [one for one in there.get(key) or () if str(one["path"]).strip(" /").startswith(ours)]
        for key in ("input", "output")
    }
    return {key: value for key, value in there.items() if key not in READ_ONLY} | kept


def is_of(there: dict[str, Any], owner: str, function_label: str = "") -> bool:
    """Whether a service was made by this runtime's folder, for the function of this label if one is told."""
    carried = there.get("labels") or {}
    return carried.get(OWNER) == owner and (not function_label or carried.get(FUNCTION) == function_label)


def version_of(there: dict[str, Any]) -> str:
    """The version that a service carries."""
    return str((there.get("labels") or {}).get(VERSION, ""))


def _service(function: Function, name: str, image: str, script: str, carried: dict[str, str]) -> dict[str, Any]:
    """As OSCAR's form of the definition says it, with our script and labels and without what the dispatcher does."""
    kept = {key: value for key, value in function.settings.items() if key in SERVICE}
    plain = {key: value for key, value in function.environment.items() if "{{" not in value}  # a call brings the others
    as_service = function.model_copy(
        update={
            "name": name, "origin": "volvox", "model": "", "image": image, "command": (), "script": "#!/bin/sh\n",
            "runtime": "auto", "inputs": (), "outputs": (), "providers": {}, "environment": plain, "settings": kept,
            "fetches": True, "bulk": None, "arguments": {},
        }
    )  # fmt: skip
    text, _ = written([as_service], "oscar")
    (entry,) = yaml.safe_load(text)["functions"]["oscar"]
    (body,) = entry.values()
    environment = (body.pop("environment", None) or {}).get("Variables", {})
    return {
        **body,
        "script": script,
        "environment": {"variables": environment} if environment else {},
        "labels": {**_texts(body.get("labels")), **carried},
        "annotations": {**_texts(body.get("annotations")), NAME: function.name, DEFINITION: function.version},
    }


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(each) for key, each in value.items()} if isinstance(value, dict) else {}


def _readable(function: Function, length: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", function.name.lower()).strip("-")[:length].strip("-") or "function"


def _plain(value: Any) -> Any:
    """As the API has it: no line ends of another system, names of variables as they are, no `/` around paths."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.replace("\r\n", "\n").rstrip("\n") if isinstance(value, str) and "\n" in value else value

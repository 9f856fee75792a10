"""What `settings` of a function on runtime `kubernetes` may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.functions.document import Kind as ValueKind
from volvox.functions.document import Value, Wrong
from volvox.functions.values import Kind, choice, listing, mapping, matching, near, number, texts, truth

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAME = "write the name of an object of Kubernetes: lower case letters, digits, '-' and '.'"


def _texts(value: Value) -> dict[str, str]:
    """Keys and texts; a number or truth value must be in quotes, since it is a text that Kubernetes wants."""
    mapping(value)
    for _, each in value.entries:
        if each.kind != "text":
            raise each.wrong(f"is {each.told}; write a text, in quotes")
    return {name: each.text for name, each in value.entries}


def _tolerations(value: Value) -> list[Any]:
    allowed = ("key", "operator", "value", "effect", "tolerationSeconds")
    for each in value.items if value.kind == "list" else (value,):
        mapping(each)
        for name, inner in each.entries:
            if name not in allowed:
                raise inner.wrong(f"is no key of a toleration{near(name, allowed)}; allowed are {', '.join(allowed)}")
    return listing(value)


def _secrets(value: Value) -> list[str]:
    found = texts(value)
    one = matching(_DOMAIN, _NAME)
    for each in value.items if value.kind == "list" else (value,):
        one(each)
    return found


KUBERNETES: Mapping[str, Kind[Any]] = {
    "namespace": matching(_LABEL, "write a namespace: 1 to 63 lower case letters, digits and '-'"),
    "cluster_config": matching(r"(/|~/).+", "write the whole path of a kubeconfig, / or ~/ first"),
    "context": matching(r".+", "write a context of the kubeconfig"),
    "pull_secret": _secrets,
    "image_pull_secrets": _secrets,
    "pull_policy": choice("IfNotPresent", "Always", "Never"),
    "service_account": matching(_DOMAIN, _NAME),
    "user": matching(r"\d{1,9}(:\d{1,9})?", "write numbers of user and group: 1000:1000"),
    "read_only": truth,
    "node_selector": _texts,
    "tolerations": _tolerations,
    "priority_class": matching(_DOMAIN, _NAME),
    "runtime_class": matching(_DOMAIN, _NAME),
    "gpu_resource": matching(rf"{_DOMAIN}/[A-Za-z0-9._-]+", "write a resource of nodes, such as nvidia.com/gpu"),
    "host_network": truth,
    "reach": choice("address", "proxy"),
    "service": truth,
    "annotations": _texts,
    "labels": _texts,
    "start_seconds": number(1, 86_400),
}


def checked(value: Value) -> list[str]:
    """What is wrong with the settings that stand there, a sentence each."""
    found = []
    for name, each in value.entries:
        if name.lower() == "storage_providers":
            continue  # of its places
        kind = KUBERNETES.get(name.lower())
        try:
            if kind is None:
                told = f"is no setting of runtime kubernetes{near(name, KUBERNETES)}; allowed are "
                raise each.wrong(told + ", ".join(KUBERNETES))
            if each.kind != "nothing":
                kind(each)
        except Wrong as error:
            found.append(str(error))
    return found


def valued(key: str, plain: Any) -> Value:
    """A value that was read before, as the kinds take it."""
    where: dict[str, Any] = {"file": "settings", "line": 0, "key": key}
    if isinstance(plain, Mapping):
        return Value(**where, kind="map", entries=tuple((str(k), valued(f"{key}.{k}", v)) for k, v in plain.items()))
    if isinstance(plain, list | tuple):
        return Value(**where, kind="list", items=tuple(valued(f"{key}.{n}", v) for n, v in enumerate(plain)))
    if plain is None:
        return Value(**where, kind="nothing")
    kind: ValueKind = "truth" if isinstance(plain, bool) else "number" if isinstance(plain, int | float) else "text"
    return Value(**where, kind=kind, text=str(plain))

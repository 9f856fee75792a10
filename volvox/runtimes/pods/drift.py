"""Whether an object of a cluster is still what it should be."""

from __future__ import annotations

from typing import Any


def differs(should: Any, there: Any, path: str = "") -> str:
    """Where an object is not as it should be, a path like `spec.template`; empty if it is.

    Keys that nobody stated are the cluster's own defaults, and count as nothing; the items of a list are compared one
    by one, so an item too many counts. How many pods there are is the activator's, and left out.
    """
    if isinstance(should, dict):
        if not isinstance(there, dict):
            return path or "all of it"
        for key, value in should.items():
            here = f"{path}.{key}" if path else str(key)
            if here == "spec.replicas":
                continue
            if value in ({}, []) and not there.get(key):
                continue
            if key not in there:
                return here
            if found := differs(value, there[key], here):
                return found
        return ""
    if isinstance(should, list):
        if not isinstance(there, list) or len(should) != len(there):
            return path
        return next(
            (
                found
                for n, (a, b) in enumerate(zip(should, there, strict=True))
                if (found := differs(a, b, f"{path}.{n}"))
            ),
            "",
        )
    return "" if should == there else path


def repaired(should: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    """What is put in the place of an object that differs: as it should be, with what the cluster alone may say."""
    meta = {**should["metadata"], "resourceVersion": there["metadata"]["resourceVersion"]}
    spec = dict(should["spec"])
    if "replicas" in there.get("spec", {}):
        spec["replicas"] = there["spec"]["replicas"]
    if there.get("kind") == "Service" or should["kind"] == "Service":
        spec |= {key: there["spec"][key] for key in ("clusterIP", "clusterIPs") if key in there["spec"]}
    return {**should, "metadata": meta, "spec": spec}

"""What of a cluster is looked at before anything is made there: that it answers, who we are, and what it allows."""

from __future__ import annotations

from typing import Any

from volvox.errors import AccessRefused, InvalidInput, NotFound, Unavailable
from volvox.functions import quantities
from volvox.functions.definition import Function
from volvox.runtimes.oscar_cluster.client import OscarCluster


async def told(cluster: OscarCluster) -> str:
    """The cluster with its versions, as people say it.

    Raises:
        AccessRefused: If the credentials are refused.
        Unavailable: If it does not answer, or something else does at its address.
    """
    info = await cluster.get("/system/info")
    if not isinstance(info, dict) or not info.get("version"):
        endpoint = (await cluster.access()).endpoint
        raise Unavailable(f"{cluster.called} does not say its version; is {endpoint} the address of OSCAR?")
    kubernetes = info.get("kubernetes_version")
    return f"{cluster.called}, version {info['version']}" + (f" on Kubernetes {kubernetes}" if kubernetes else "")


async def check(cluster: OscarCluster, function: Function, image: str) -> None:
    """Whether the cluster can take a function.

    Args:
        cluster: The cluster.
        function: The function.
        image: What it would run; empty: that is not known yet.

    Raises:
        InvalidInput: If it cannot; the message says what stands against it.
        AccessRefused, Unavailable: As for `told`.
    """
    await told(cluster)
    config = await cluster.config(now=True)
    name, resources = f"function {function.name!r}", function.resources
    if resources.gpus and config.get("gpu_available") is False:
        raise InvalidInput(f"{name} needs {resources.gpus} GPU, and {cluster.called} has none")
    if resources.gpus > 1:
        raise InvalidInput(f"{name} needs {resources.gpus} GPUs, and a service of OSCAR gets one")
    allowed = [str(one) for one in config.get("allowed_image_repositories") or ()]
    if image and allowed and not any(image.startswith(one.rstrip("*")) for one in allowed):
        raise InvalidInput(f"{cluster.called} takes no image {image}; it allows {', '.join(allowed)}")
    group, groups = function.settings.get("vo"), [str(one) for one in config.get("oidc_groups") or ()]
    if group and groups and str(group) not in groups:
        raise InvalidInput(f"{cluster.called} knows no group {group!r} (setting vo); it has {', '.join(groups)}")
    await _quota(cluster, function)


async def _quota(cluster: OscarCluster, function: Function) -> None:
    """What one instance needs may not be more than the user may have at all."""
    try:
        quota = await cluster.get("/system/quotas/user")
    except (NotFound, AccessRefused, InvalidInput):  # a cluster without, or one that does not tell this user
        return
    resources = quota.get("resources") if isinstance(quota, dict) else None
    needs = function.resources
    for key, need, unit, read in (
        ("memory", needs.memory_mb, "MB", quantities.memory_mb),
        ("cpu", needs.cpu, "cores", quantities.cores),
    ):
        most = _amount((resources or {}).get(key), read)
        if need and most and need > most:
            raise InvalidInput(
                f"function {function.name!r} needs {need:g} {unit} ({key}), and the quota in {cluster.called} is "
                f"{most:g}"
            )


def _amount(told: Any, read: Any) -> float:
    most = told.get("max") if isinstance(told, dict) else None
    try:
        return float(read(str(most))) if most not in (None, "", 0, "0") else 0.0
    except ValueError:
        return 0.0

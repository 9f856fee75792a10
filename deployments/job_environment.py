"""What a container of a work pool is told of this installation: where MLflow, the store and their like are."""

from __future__ import annotations

import os
from pathlib import Path

from volvox.pools.definition import PoolDefinition
from volvox.settings import Home
from volvox.stack.state import addresses

# Prefect's and MLflow's ways in a job: no telemetry, no server of its own, its log on standard output as well.
_QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "8",
}


def job_environment(pool: PoolDefinition) -> dict[str, str]:
    """The variables of every container of `pool`, without those of its own file, which go first.

    No secret is among them: a store or a server that asks for one is named as a block (`VOLVOX_STORE=block:NAME`).
    """
    home = Home.current()
    tracking = os.environ.get("MLFLOW_TRACKING_URI") or addresses(home).get("mlflow", "")
    told = {**_QUIET, "VOLVOX_STORE": home.store}
    if tracking:
        told["MLFLOW_TRACKING_URI"] = tracking
    return {name: value for name, value in told.items() if name not in pool.environment}


def store_folder(pool: PoolDefinition) -> str:
    """The folder that is this pool's store, if it is one; empty for S3 and blocks."""
    store = pool.environment.get("VOLVOX_STORE") or Home.current().store
    if "://" in store and not store.startswith("file://"):
        return ""
    return "" if store.startswith("block:") else str(Path(store.removeprefix("file://")).absolute())


def container_user(pool: PoolDefinition) -> str:
    """Whom containers run as: the owner of a store that is a folder, so that both sides can write; else the image's."""
    if not pool.starts_containers or not (folder := store_folder(pool)):
        return ""
    try:
        owner = Path(folder).stat()
    except OSError:
        return f"{os.getuid()}:{os.getgid()}"
    return f"{owner.st_uid}:{owner.st_gid}"


def with_store(pool: PoolDefinition) -> PoolDefinition:
    """`pool` with the store mounted where it is a folder that no volume of the pool's file brings."""
    folder = store_folder(pool)
    if pool.type not in ("docker", "kubernetes") or not folder:
        return pool
    for volume in pool.volumes:
        target = volume.split(":")[1]
        if Path(folder).is_relative_to(target):
            return pool
    return pool.model_copy(update={"volumes": (*pool.volumes, f"{folder}:{folder}")})

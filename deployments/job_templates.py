"""The base job template of a work pool: that of Prefect's worker, with what the pool's file says as its defaults.

What a run needs comes as job variables (`volvox.pools.requests`); what every run of the pool gets stands here.
"""

from __future__ import annotations

import copy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput
from volvox.pools.definition import PoolDefinition

HOME = "/tmp/volvox"  # noqa: S108 - a path inside a container, where nobody else is
_ENGINE = "python -m prefect.engine"


def worker_template(pool_type: str) -> dict[str, Any]:
    """The template that Prefect's worker of this type brings."""
    template = _DEFAULTS[pool_type]()
    return copy.deepcopy(template)


def job_template(pool: PoolDefinition, environment: dict[str, str], *, user: str = "") -> dict[str, Any]:
    """The base job template of `pool`.

    Args:
        pool: What its file says.
        environment: Addresses that every job gets beside the pool's own variables.
        user: `uid` or `uid:gid` that containers run as, so that files on a shared volume stay readable; empty: the
            image's own.

    Raises:
        InvalidInput: If the pool sets a variable that its template does not have.
    """
    template = worker_template(pool.type)
    variables = template["variables"]["properties"]
    defaults = _SHAPES[pool.type](pool, template, user)
    if pool.starts_containers:
        # The worker's own folder for Prefect's state means nothing in a container.
        defaults["env"] = {
            "PREFECT_HOME": None,
            "VOLVOX_HOME": HOME,
            "VOLVOX_POOL": pool.name,
            **environment,
            **pool.environment,
        }
        defaults["image"] = pool.image
    elif pool.environment:
        defaults["env"] = dict(pool.environment)
    _known(pool, variables)
    for name, value in {**defaults, **pool.job_variables}.items():
        if isinstance(value, dict) and isinstance(defaults.get(name), dict):
            value = {**defaults[name], **value}  # noqa: PLW2901 - a pool adds to what it does not replace
        variables[name]["default"] = value
    if pool.type == "docker":
        # Not by the variable itself: a run that asks for processors would replace the user and the dropped rights.
        template["job_configuration"]["container_create_kwargs"] = {
            **variables["container_create_kwargs"]["default"],
            **{name: f"{{{{ {name} }}}}" for name in ("nano_cpus", "device_requests")},
        }
    return template


def _known(pool: PoolDefinition, variables: dict[str, Any]) -> None:
    from difflib import get_close_matches

    for name in pool.job_variables:
        if name not in variables:
            near = get_close_matches(name, variables, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInput(
                f"pool {pool.name!r} sets job variable {name!r}, which a {pool.type} job does not have{hint}; "
                f"there are {', '.join(sorted(variables))}"
            )


def _process(_: PoolDefinition, __: dict[str, Any], ___: str) -> dict[str, Any]:
    # With a command of its own a run skips Prefect's resolving of a workspace: two seconds and a copy of the code.
    return {"command": f"{shlex.quote(sys.executable)} -m prefect.engine"}


def _docker(pool: PoolDefinition, template: dict[str, Any], user: str) -> dict[str, Any]:
    variables = template["variables"]["properties"]
    variables["nano_cpus"] = {
        "title": "Processors", "type": "integer", "default": None, "description": "How much of them, in billionths.",
    }  # fmt: skip
    variables["device_requests"] = {
        "title": "Device requests", "type": "array", "default": None,
        "description": 'GPUs of the container: [{"driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}].',
    }  # fmt: skip
    variables["container_create_kwargs"]["description"] = "Of the pool; what a run gives here is not heeded."
    more: dict[str, Any] = {"init": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
    if user:
        more["user"] = user
    return {
        "command": _ENGINE,
        "auto_remove": False,  # the reconciler removes a container when it has seen why it ended
        "image_pull_policy": "IfNotPresent",
        "volumes": list(pool.volumes),
        "container_create_kwargs": more,
    }


def _kubernetes(pool: PoolDefinition, template: dict[str, Any], user: str) -> dict[str, Any]:
    variables = template["variables"]["properties"]
    variables["host_network"] = {
        "title": "Host network", "type": "boolean", "default": False,
        "description": "Whether pods use the node's network, as where no Service routes to Prefect and MLflow.",
    }  # fmt: skip
    variables["gpus"] = {
        "title": "GPUs", "type": "string", "default": None, "description": "How many nvidia.com/gpu a pod gets."
    }  # fmt: skip
    variables["image_pull_secrets"] = {
        "title": "Image pull secrets", "type": "array", "default": None,
        "description": 'Secrets of the namespace that open the registry: [{"name": "..."}].',
    }  # fmt: skip
    job = template["job_configuration"]["job_manifest"]["spec"]
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    # Prefect's template has them in the pod, where an API server that checks its fields refuses them.
    for wrong in ("completions", "parallelism"):
        pod.pop(wrong, None)
        job[wrong] = 1
    pod["hostNetwork"] = "{{ host_network }}"
    pod["imagePullSecrets"] = "{{ image_pull_secrets }}"
    pod["terminationGracePeriodSeconds"] = 10
    container["resources"]["limits"]["nvidia.com/gpu"] = "{{ gpus }}"
    container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    context: dict[str, Any] = {"runAsNonRoot": True}
    if user:
        uid, _, gid = user.partition(":")
        context = {"runAsUser": int(uid), **({"runAsGroup": int(gid)} if gid else {})}
    pod["securityContext"] = context
    mounts, volumes = _mounts(pool)
    if mounts:
        container["volumeMounts"], pod["volumes"] = mounts, volumes
    return {
        "command": _ENGINE, "image_pull_policy": "IfNotPresent", "backoff_limit": 0, "finished_job_ttl": 300,
        "stream_output": False,  # the run sends its log to Prefect itself
    }  # fmt: skip


def _mounts(pool: PoolDefinition) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    for number, volume in enumerate(pool.volumes):
        source, target, *mode = volume.split(":")
        name = f"volume-{number}"
        mounts.append({"name": name, "mountPath": target, "readOnly": mode == ["ro"]})
        if Path(source).is_absolute():
            volumes.append({"name": name, "hostPath": {"path": source}})
        else:
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": source}})
    return mounts, volumes


def _ecs(pool: PoolDefinition, template: dict[str, Any], _: str) -> dict[str, Any]:
    template["variables"]["properties"]["resource_requirements"] = {
        "title": "Resource requirements", "type": "array", "default": None,
        "description": 'GPUs of the container: [{"type": "GPU", "value": "1"}].',
    }  # fmt: skip
    definition = template["job_configuration"]["task_definition"]
    container = definition["containerDefinitions"][0]
    container["resourceRequirements"] = "{{ resource_requirements }}"
    container["stopTimeout"] = 8  # seconds between the request to end and the end by force; 30 if not stated
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    for number, volume in enumerate(pool.volumes):
        source, target, *mode = volume.split(":")
        name = f"volume-{number}"
        mounts.append({"sourceVolume": name, "containerPath": target, "readOnly": mode == ["ro"]})
        place = (
            {"host": {"sourcePath": source}}
            if Path(source).is_absolute()
            else {"efsVolumeConfiguration": {"fileSystemId": source, "transitEncryption": "ENABLED"}}
        )
        volumes.append({"name": name, **place})
    if mounts:
        container["mountPoints"], definition["volumes"] = mounts, volumes
    return {"command": _ENGINE, "container_name": "prefect"}


def _default_process() -> dict[str, Any]:
    from prefect.workers.process import ProcessWorker

    return ProcessWorker.get_default_base_job_template()


def _default_docker() -> dict[str, Any]:
    from prefect_docker.worker import DockerWorker

    return DockerWorker.get_default_base_job_template()


def _default_kubernetes() -> dict[str, Any]:
    from prefect_kubernetes.worker import KubernetesWorker

    return KubernetesWorker.get_default_base_job_template()


def _default_ecs() -> dict[str, Any]:
    from prefect_aws.workers.ecs_worker import ECSWorker

    return ECSWorker.get_default_base_job_template()


_DEFAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "process": _default_process, "docker": _default_docker, "kubernetes": _default_kubernetes, "ecs": _default_ecs,
}  # fmt: skip
_SHAPES: dict[str, Callable[[PoolDefinition, dict[str, Any], str], dict[str, Any]]] = {
    "process": _process, "docker": _docker, "kubernetes": _kubernetes, "ecs": _ecs,
}  # fmt: skip

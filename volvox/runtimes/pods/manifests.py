"""The objects of a function in a cluster, as manifests: a Deployment and a Service of a model, a Job of a call.

Amounts are written as the API server would write them, so that what is there can be compared with what should be; and
what is to be empty is stated, since what nobody stated counts for nothing there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from volvox.functions.definition import Function
from volvox.functions.quantities import memory_text
from volvox.identity import digest_of
from volvox.packaging.context import PORT
from volvox.runtimes import asking
from volvox.runtimes.pods.settings import PodSettings

OWNER, FUNCTION, VERSION, ROLE = "volvox/owner", "volvox/function", "volvox/version", "volvox/role"
DISPATCHER = "volvox/dispatcher"
NAME, DEFINITION = "volvox/name", "volvox/definition"  # annotations
MODEL_CONTAINER, CALL_CONTAINER = "model", "script"
WORK = "/volvox"

_TMP_MB = 1024
_WORK_MB = 10 * 1024
_LARGEST_GRACE_SECONDS = 600
_CALL_SECONDS = 86_400  # beyond its own time a call's Job is ended by the cluster, whoever has forgotten it
_KEPT_SECONDS = 900


def function_label(name: str) -> str:
    """What stands for a function in labels, which take fewer letters than names have."""
    return digest_of(["function-name", name])[:32]


def labels(owner: str, function: str, role: str, version: str = "") -> dict[str, str]:
    """What an object of ours carries."""
    found = {OWNER: owner, FUNCTION: function_label(function), ROLE: role, "app.kubernetes.io/managed-by": "volvox"}
    return {**found, VERSION: version} if version else found


def selector(owner: str, function: str = "", role: str = "", version: str = "") -> str:
    """The query that finds what carries these."""
    told = {OWNER: owner, FUNCTION: function_label(function) if function else "", ROLE: role, VERSION: version}
    return ",".join(f"{key}={value}" for key, value in told.items() if value)


def object_name(function: str, *parts: str) -> str:
    """The name of an object: readable, and one for these parts alone; at most 52 letters, as a Job's may have."""
    readable = re.sub(r"[^a-z0-9]+", "-", function.lower()).strip("-")[:30].strip("-") or "function"
    return f"volvox-{readable}-{digest_of([function, *parts])[:12]}"


def deployment(function: Function, settings: PodSettings, *, owner: str, label: str, image: str) -> dict[str, Any]:
    """The Deployment of one version of a model, without pods: how many there are is said when one is needed."""
    carried = labels(owner, function.name, "instance", label)
    grace = int(min(function.timeout_seconds + 10, _LARGEST_GRACE_SECONDS))
    probe = {"path": "/health/live", "port": PORT, "scheme": "HTTP"}
    container = {
        "name": MODEL_CONTAINER,
        "image": image,
        "imagePullPolicy": settings.pull_policy,
        "command": [],
        "args": [*asking.server_arguments(function)],
        "env": [],
        "envFrom": [],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": resources(function, settings),
        "readinessProbe": {"httpGet": {**probe, "path": "/health/ready"}, "periodSeconds": 2, "failureThreshold": 3,
                           "timeoutSeconds": 5, "successThreshold": 1},
        "livenessProbe": {"httpGet": probe, "initialDelaySeconds": 30, "periodSeconds": 15, "failureThreshold": 8,
                          "timeoutSeconds": 10, "successThreshold": 1},
        "securityContext": _container_rights(read_only=True),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - inside of it
    }  # fmt: skip
    volumes = [_empty("tmp", function.resources.storage_mb or _TMP_MB)]
    pod = _pod(settings, container, volumes, restart="Always", grace=grace)
    # A first process has no default for SIGTERM: ended while it starts, it would go on until the grace is over.
    pod["shareProcessNamespace"] = True
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(object_name(function.name, owner, label), settings, carried, function),
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": carried},
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 600,
            "template": {"metadata": _pod_meta(settings, carried), "spec": pod},
        },
    }


def service(function: Function, settings: PodSettings, *, owner: str, label: str) -> dict[str, Any]:
    """The Service that leads to the pods of the version which answers."""
    carried = labels(owner, function.name, "service")
    meta = _meta(object_name(function.name, owner, "service"), settings, carried, function)
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    chosen = labels(owner, function.name, "instance", label)
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": meta,
        "spec": {"type": "ClusterIP", "selector": chosen, "ports": ports},
    }  # fmt: skip


def call_job(
    function: Function, settings: PodSettings, *, name: str, owner: str, dispatcher: str, program: tuple[str, ...]
) -> dict[str, Any]:
    """The Job of one call of a script.

    Nothing of the call stands in it: its file, event and variables, secrets among them, are brought when it runs.
    """
    carried = {**labels(owner, function.name, "call"), DISPATCHER: dispatcher}
    container = {
        "name": CALL_CONTAINER,
        "image": function.image,
        "imagePullPolicy": settings.pull_policy,
        "command": [*program],
        "resources": resources(function, settings),
        "securityContext": _container_rights(read_only=settings.read_only),
        "volumeMounts": [{"name": "work", "mountPath": WORK}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    volumes = [_empty("work", function.resources.storage_mb or _WORK_MB), _empty("tmp", _TMP_MB)]
    pod = _pod(settings, container, volumes, restart="Never", grace=4)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _meta(name, settings, carried, function),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(function.timeout_seconds) + _CALL_SECONDS,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": _pod_meta(settings, carried), "spec": pod},
        },
    }


def resources(function: Function, settings: PodSettings) -> dict[str, dict[str, str]]:
    """What a container asks for, and may not exceed."""
    needs, told = function.resources, dict[str, str]()
    if needs.memory_mb:
        told["memory"] = memory_text(needs.memory_mb)
    if needs.cpu:
        thousandths = round(needs.cpu * 1000)
        told["cpu"] = str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"
    if needs.gpus:
        told[settings.gpu_resource] = str(needs.gpus)
    return {"limits": dict(told), "requests": dict(told)} if told else {}


def _meta(name: str, settings: PodSettings, carried: Mapping[str, str], function: Function) -> dict[str, Any]:
    told = {NAME: function.name, DEFINITION: function.version}
    return {"name": name, "namespace": settings.namespace, "labels": dict(carried), "annotations": told}


def _pod_meta(settings: PodSettings, carried: Mapping[str, str]) -> dict[str, Any]:
    meta: dict[str, Any] = {"labels": {**settings.labels, **carried}}
    return {**meta, "annotations": dict(settings.annotations)} if settings.annotations else meta


def _pod(
    settings: PodSettings, container: dict[str, Any], volumes: list[dict[str, Any]], *, restart: str, grace: int
) -> dict[str, Any]:
    user, group = settings.user_and_group
    pod: dict[str, Any] = {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": user, "runAsGroup": group, "fsGroup": group, "runAsNonRoot": user != 0,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [],
        "containers": [container],
        "volumes": volumes,
    }  # fmt: skip
    further: dict[str, Any] = {
        "imagePullSecrets": [{"name": name} for name in settings.pull_secrets],
        "serviceAccountName": settings.service_account,
        "nodeSelector": dict(settings.node_selector),
        "tolerations": [dict(one) for one in settings.tolerations],
        "priorityClassName": settings.priority_class,
        "runtimeClassName": settings.runtime_class,
    }
    pod |= {key: value for key, value in further.items() if value}
    if settings.host_network:
        pod |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    return pod


def _container_rights(*, read_only: bool) -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": read_only,
        "capabilities": {"drop": ["ALL"]},
    }


def _empty(name: str, size_mb: int) -> dict[str, Any]:
    return {"name": name, "emptyDir": {"sizeLimit": memory_text(size_mb)}}

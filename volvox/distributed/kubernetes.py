"""A training on several nodes of Kubernetes, as manifests: plain dictionaries, which any client can create.

From Kubernetes 1.21 on it is one Indexed Job and a Service without an address, by which the pods find the first one:
`indexed_job` and `headless_service`. Older clusters know no such Job: there the pods are made one by one, the first one
first, and the others are told its address: `pod`. In both forms a Secret holds what the nodes know each other by:
`rendezvous_secret`. Whatever is owned by something is removed with it.

Where the first node is the job of a stage, which a worker of Prefect has made, the others are pods beside it: `Group`.
"""

from __future__ import annotations

import copy
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from volvox.distributed.launch import TOKEN
from volvox.distributed.together import GROUP, NODE, NODES, RENDEZVOUS
from volvox.errors import InvalidInput

FLOW_RUN_LABEL = "prefect.io/flow-run-id"
NAME_LABEL = "app.kubernetes.io/name"
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 56  # a pod's host name is this, a hyphen and its number, and takes 63
_KEY = "token"
_PORT, _MASTER_PORT = 29500, 29501


@dataclass(frozen=True)
class Training:
    """What runs on the nodes.

    Attributes:
        name: Of the Job, the Service and the Secret.
        image: Holds the command and this package.
        command: What each process runs.
        nodes: How many pods.
        processes: In each of them; at least one for each GPU.
        flow_run: Identifier of the Prefect flow run that this is part of; the pods carry it as a label.
        namespace: Where to create it.
        labels: More of them.
        environment: Variables of each process; no secrets, which a manifest shows to everybody who may list pods.
        secret_environment: Names of Secrets whose keys become variables.
        cpu: Processors that each pod has for sure; it may use more while nobody else does.
        memory_mb: Memory of each pod, in MiB; more ends it.
        gpus: GPUs of each pod.
        shared_memory_mb: Of `/dev/shm`, by which processes of one pod exchange what they compute; part of `memory_mb`.
        user: Numeric user and group; not 0.
        host_network: Whether the pods use the node's own network, as some interconnects ask for.
        node_selector: Labels of the nodes that may run it.
        volumes: Kubernetes volumes, e.g. a claim that all pods share.
        mounts: Where they are in the container.
        owner: `ownerReferences` entry: what it is removed with.
        ttl_seconds: How long it is kept when it has ended.
        deadline_seconds: How long it may run; 0: for ever.
        wait_seconds: How long the pods wait for each other.
    """

    name: str
    image: str
    command: list[str]
    nodes: int = 2
    processes: int = 1
    flow_run: str = ""
    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    secret_environment: list[str] = field(default_factory=list)
    cpu: float = 1
    memory_mb: int = 2048
    gpus: int = 0
    shared_memory_mb: int = 256
    user: int = 1000
    host_network: bool = False
    node_selector: dict[str, str] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    owner: dict[str, Any] | None = None
    ttl_seconds: int = 3600
    deadline_seconds: int = 0
    wait_seconds: int = 300

    def __post_init__(self) -> None:
        """Refuse what no cluster would run, or would run as something else than was meant.

        Raises:
            InvalidInput: If there is such a thing.
        """
        if not _NAME.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise InvalidInput(
                f"{self.name!r} cannot name a training on Kubernetes: take at most {_LONGEST_NAME} lower-case letters, "
                "digits and hyphens, a letter first"
            )
        if self.nodes < 1 or self.processes < 1:
            raise InvalidInput(f"{self.nodes} nodes of {self.processes} processes are asked for; ask for at least one")
        if self.gpus and self.processes != self.gpus:
            raise InvalidInput(
                f"{self.gpus} GPUs a pod are asked for {self.processes} processes; each uses one: ask for as many"
            )
        if not self.user:
            raise InvalidInput("user 0 is root, which a training does not need; give another number")
        if TOKEN in self.environment:
            raise InvalidInput(f"{TOKEN} would be readable in the manifest; rendezvous_secret() holds it")


def rendezvous_secret(training: Training, token: str = "") -> dict[str, Any]:
    """The Secret by which the pods know each other; drawn anew where no `token` is given."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(training, training.name),
        "type": "Opaque",
        "stringData": {_KEY: token or secrets.token_urlsafe(32)},
    }


def headless_service(training: Training) -> dict[str, Any]:
    """The Service that gives each pod of the Job a name; the names exist before the pods are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(training, training.name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {NAME_LABEL: training.name},
            "ports": [
                {"name": "rendezvous", "port": _PORT, "protocol": "TCP"},
                {"name": "master", "port": _MASTER_PORT, "protocol": "TCP"},
            ],
        },
    }


def indexed_job(training: Training) -> dict[str, Any]:
    """The Job: as many pods as there are nodes, each of which knows its number; one that fails ends all of them."""
    template = {"metadata": {"labels": _labels(training)}, "spec": _pod_spec(training, _rendezvous_by_name(training))}
    template["spec"]["subdomain"] = training.name
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": training.nodes,
        "parallelism": training.nodes,
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": training.ttl_seconds,
        "template": template,
    }
    if training.deadline_seconds:
        spec["activeDeadlineSeconds"] = training.deadline_seconds
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(training, training.name), "spec": spec}


def pod(training: Training, node: int, first_address: str = "") -> dict[str, Any]:
    """The pod of one node, for clusters without Indexed Jobs.

    Args:
        training: What runs.
        node: Its number; number 0 has to be made first.
        first_address: Where pod 0 is (`status.podIP`); all others need it.

    Raises:
        InvalidInput: If it is missing, or there is no such node.
    """
    if not 0 <= node < training.nodes:
        raise InvalidInput(f"there is no node {node} of {training.nodes}; they count from 0")
    if node and not first_address:
        raise InvalidInput(f"pod {node} has to be told the address of pod 0; make that one first and read its podIP")
    address = f"[{first_address}]" if ":" in first_address else first_address
    spec = _pod_spec(training, f"{address if node else ''}:{_PORT}", node)
    if training.deadline_seconds:
        spec["activeDeadlineSeconds"] = training.deadline_seconds
    metadata = _metadata(training, f"{training.name}-{node}")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class Group:
    """The nodes of a training whose first one is the pod of a Job that somebody else has made.

    Attributes:
        name: Of the Secret by which they know each other; their pods are called after it.
        nodes: How many there are.
        port: Where the first one listens; the next one is for what the processes exchange.
        token: The secret itself.
    """

    name: str
    nodes: int
    port: int = _PORT
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def secret(self, namespace: str) -> dict[str, Any]:
        """The Secret; it is to be owned by the Job as soon as there is one."""
        labels = {NAME_LABEL: self.name, "app.kubernetes.io/managed-by": "volvox"}
        return {
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": {_KEY: self.token},
            "metadata": {"name": self.name, "namespace": namespace, "labels": labels},
        }  # fmt: skip

    def first(self, job: dict[str, Any]) -> dict[str, Any]:
        """The Job's manifest with what its process is told of the others."""
        told = copy.deepcopy(job)
        container = told["spec"]["template"]["spec"]["containers"][0]
        container["env"] = self._environment(container, 0, f":{self.port}")
        return told

    def other(self, job: dict[str, Any], node: int, address: str, owner: dict[str, Any]) -> dict[str, Any]:
        """The pod of another node: all that the Job's own pod has, with a command of its own.

        Args:
            job: The Job's manifest.
            node: Which node, from 1.
            address: Where the first one is.
            owner: `ownerReferences` entry of the Job, so that the pod is removed with it.
        """
        spec = copy.deepcopy(job["spec"]["template"]["spec"])
        container = spec["containers"][0]
        host = f"[{address}]" if ":" in address else address
        container["command"], _ = ["python", "-m", "tasks.node"], container.pop("args", None)
        container["env"] = self._environment(container, node, f"{host}:{self.port}")
        spec["restartPolicy"] = "Never"  # its processes would not find the others where they left them
        labels = {NAME_LABEL: self.name, "app.kubernetes.io/managed-by": "volvox"}
        metadata = {"name": f"{self.name}-{node}", "labels": labels, "ownerReferences": [owner]}
        if namespace := job["metadata"].get("namespace"):
            metadata["namespace"] = namespace
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _environment(self, container: dict[str, Any], node: int, rendezvous: str) -> list[dict[str, Any]]:
        """The container's variables and ours; in the pod of another node nothing belongs to the flow run."""
        own = {GROUP: self.name, NODES: str(self.nodes), NODE: str(node), RENDEZVOUS: rendezvous}
        given = [one for one in container.get("env") or [] if one["name"] not in own]
        if node:
            given = [one for one in given if not one["name"].startswith("PREFECT__")]
        token = {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": self.name, "key": _KEY}}}
        return [*given, *({"name": name, "value": value} for name, value in own.items()), token]


def _rendezvous_by_name(training: Training) -> str:
    return f"{training.name}-0.{training.name}.{training.namespace}.svc:{_PORT}"


def _pod_spec(training: Training, rendezvous: str, node: int | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",  # a process that starts anew would not find the others where it left them
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": training.user,
            "runAsGroup": training.user,
            "fsGroup": training.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(training, rendezvous, node)],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {
                "name": "shared-memory",
                "emptyDir": {"medium": "Memory", "sizeLimit": f"{training.shared_memory_mb}Mi"},
            },
            *training.volumes,
        ],
    }
    if training.host_network:
        spec["hostNetwork"] = True
        spec["dnsPolicy"] = "ClusterFirstWithHostNet"
    if training.node_selector:
        spec["nodeSelector"] = dict(training.node_selector)
    return spec


def _container(training: Training, rendezvous: str, node: int | None) -> dict[str, Any]:
    limits: dict[str, str] = {"memory": f"{training.memory_mb}Mi"}
    if training.gpus:
        limits["nvidia.com/gpu"] = str(training.gpus)
    command = [
        "python", "-m", "volvox.distributed.launch",
        "--nodes", str(training.nodes), "--processes", str(training.processes),
        *([] if node is None else ["--node-rank", str(node)]),
        "--rendezvous", rendezvous, "--master-port", str(_MASTER_PORT), "--wait-seconds", str(training.wait_seconds),
        "--", *training.command,
    ]  # fmt: skip
    environment = {"HOME": "/tmp", **training.environment}  # noqa: S108 - the only place that is writable for sure
    container: dict[str, Any] = {
        "name": "training",
        "image": training.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [
            *({"name": name, "value": value} for name, value in environment.items()),
            {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": training.name, "key": _KEY}}},
        ],
        "ports": [
            {"name": "rendezvous", "containerPort": _PORT, "protocol": "TCP"},
            {"name": "master", "containerPort": _MASTER_PORT, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": f"{training.cpu:g}", **limits}, "limits": limits},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a folder of the pod's own
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - likewise
            *training.mounts,
        ],
    }
    if training.secret_environment:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in training.secret_environment]
    return container


def _labels(training: Training) -> dict[str, str]:
    run = {FLOW_RUN_LABEL: training.flow_run} if training.flow_run else {}
    return {**training.labels, NAME_LABEL: training.name, "app.kubernetes.io/managed-by": "volvox", **run}


def _metadata(training: Training, name: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": training.namespace, "labels": _labels(training)}
    if training.owner:
        metadata["ownerReferences"] = [training.owner]
    return metadata

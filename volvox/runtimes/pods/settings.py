"""The settings of a function that only Kubernetes understands, with what stands for those that are not given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.document import Wrong
from volvox.functions.kubernetes_keys import KUBERNETES, valued


@dataclass(frozen=True)
class PodSettings:
    """Where and how pods of a function run.

    Attributes:
        namespace: Where everything of it is made; it must be there.
        cluster_config: A kubeconfig; empty: this pod's service account, else `KUBECONFIG` or `~/.kube/config`.
        context: Which of its contexts; empty: the current one.
        pull_secrets: Secrets of the namespace by which the image is fetched.
        pull_policy: When the image is fetched.
        service_account: Of its pods, which get no token of it.
        user: Number of user, and of group behind a colon.
        read_only: Whether the disk of its container cannot be written, but for `/tmp` and its own folders.
        node_selector: Labels that its node must have.
        tolerations: As Kubernetes has them.
        priority_class: Of its pods; empty: the cluster's default.
        runtime_class: Of its pods; empty: the cluster's default.
        gpu_resource: What a GPU is called on the nodes.
        host_network: Whether its pods use the network of their node.
        reach: `address`: a model's pods are asked at their own addresses; `proxy`: through the cluster's API.
        service: Whether a Service leads to a model's pods.
        annotations: Of its pods.
        labels: Of its pods.
        start_seconds: How long a pod may take until it is ready, with its node and image.
    """

    namespace: str = "default"
    cluster_config: str = ""
    context: str = ""
    pull_secrets: tuple[str, ...] = ()
    pull_policy: str = "IfNotPresent"
    service_account: str = ""
    user: str = "1000:1000"
    read_only: bool = True
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    priority_class: str = ""
    runtime_class: str = ""
    gpu_resource: str = "nvidia.com/gpu"
    host_network: bool = False
    reach: str = "address"
    service: bool = True
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    start_seconds: float = 300.0

    @property
    def user_and_group(self) -> tuple[int, int]:
        """Their numbers; a group that is not stated has the user's."""
        user, _, group = self.user.partition(":")
        return int(user), int(group or user)

    @classmethod
    def of(cls, function: Function) -> PodSettings:
        """Those of a function; keys of other runtimes are left where they are.

        Raises:
            InvalidInput: If one is not as it must be.
        """
        told: dict[str, Any] = {}
        for name, kind in KUBERNETES.items():
            if (given := function.settings.get(name)) in (None, {}, []):
                continue
            try:
                told[name] = kind(valued(name, given))
            except Wrong as error:
                said = str(error).partition(": ")[2]
                raise InvalidInput(f"function {function.name!r}: setting {said}") from error
        secrets = [*told.pop("pull_secret", []), *told.pop("image_pull_secrets", [])]
        tolerations = tuple(told.pop("tolerations", ()))
        return cls(pull_secrets=tuple(dict.fromkeys(secrets)), tolerations=tolerations, **told)

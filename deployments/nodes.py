"""Further nodes of a training on Kubernetes: pods beside the stage's own job, made by its worker, removed with the job.

The worker has the rights that this takes; so the job itself needs none. The first node's address is known when its pod
has one, and only then are the others made. On clusters of every version: an Indexed Job would make its own first pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from typing import Any

from volvox.distributed.kubernetes import Group
from volvox.errors import InvalidInput

_LOOK_SECONDS = 0.5
_PORTS = range(20_000, 28_000, 2)  # below those that kernels give away; pods of a host's network share them


def on_several_nodes() -> type[Any]:
    """What a worker of Kubernetes gets beside starting its jobs; a mixin, to stand before the worker itself."""
    from kubernetes_asyncio.client import BatchV1Api, CoreV1Api
    from kubernetes_asyncio.client.exceptions import ApiException

    class OnSeveralNodes:
        """Starts the other nodes of a run whose parameter `nodes` is more than one."""

        async def _start(self: Any, flow_run: Any, configuration: Any, task_status: Any) -> Any:
            nodes = int((flow_run.parameters or {}).get("nodes") or 1)
            if nodes < 2:
                return await super()._start(flow_run, configuration, task_status)  # type: ignore[misc]
            group = Group(f"volvox-{uuid.uuid4().hex[:12]}", nodes, random.choice(_PORTS))  # noqa: S311 - no secret
            configuration.job_manifest = group.first(configuration.job_manifest)
            async with self._get_configured_kubernetes_client(configuration) as client:
                core, namespace = _any(CoreV1Api(client)), configuration.namespace
                try:
                    await core.create_namespaced_secret(namespace, group.secret(namespace))
                except ApiException as error:
                    raise InvalidInput(
                        f"the worker may not create what {nodes} nodes need ({error.status} {error.reason}); it needs "
                        "the rights for several nodes that docs/pools.md lists"
                    ) from error
                try:
                    made = await super()._start(flow_run, configuration, task_status)  # type: ignore[misc]
                except BaseException:
                    with contextlib.suppress(ApiException):
                        await core.delete_namespaced_secret(group.name, namespace)
                    raise
            beside = asyncio.create_task(self._beside(flow_run, configuration, group, made.identifier))
            starting = self.__dict__.setdefault("_starting", set())
            starting.add(beside)
            beside.add_done_callback(starting.discard)
            return made

        async def _beside(self: Any, flow_run: Any, configuration: Any, group: Group, identifier: str) -> None:
            """Make the other pods once the first one has an address; if that cannot be, end the run."""
            namespace, _, name = identifier.partition(":")
            logger = self.get_flow_run_logger(flow_run)
            async with self._get_configured_kubernetes_client(configuration) as client:
                core, batch = _any(CoreV1Api(client)), BatchV1Api(client)
                try:
                    job = await batch.read_namespaced_job(name, namespace)
                    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.metadata.uid}
                    await core.patch_namespaced_secret(
                        group.name, namespace, {"metadata": {"ownerReferences": [owner]}}
                    )
                    address = await _address(core, name, namespace)
                    for node in range(1, group.nodes):
                        pod = group.other(configuration.job_manifest, node, address, owner)
                        await core.create_namespaced_pod(namespace, pod)
                        logger.info("node %s of %s: pod %s", node, group.nodes, pod["metadata"]["name"])
                except ApiException as error:
                    if error.status == 404:  # the job is gone, and what it owned goes with it
                        return
                    logger.error("the other nodes could not be started: %s %s", error.status, error.reason)
                    with contextlib.suppress(ApiException):
                        await batch.delete_namespaced_job(name, namespace, propagation_policy="Background")
                    message = f"The other nodes could not be started: {error.reason}; see docs/pools.md for the rights."
                    await self._propose_crashed_state(flow_run, message)

    return OnSeveralNodes


def _any(api: Any) -> Any:
    """Its types want models where it takes manifests as well."""
    return api


async def _address(core: Any, job: str, namespace: str) -> str:
    """The address of the job's pod, as soon as it has one; the reconciler ends jobs whose pod never gets any."""
    from kubernetes_asyncio.client.exceptions import ApiException

    seen = False
    while True:
        pods = (await core.list_namespaced_pod(namespace, label_selector=f"job-name={job}")).items
        if pods and pods[0].status.pod_ip:
            return pods[0].status.pod_ip
        if seen and not pods:
            raise ApiException(status=404, reason="the job is gone")
        seen = bool(pods)
        await asyncio.sleep(_LOOK_SECONDS)

"""Kubernetes Jobs of flow runs, and the pods that run them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any

from volvox.errors import Unavailable, VolvoxError
from volvox.infrastructure import jobs as told
from volvox.infrastructure.cluster import Cluster
from volvox.infrastructure.jobs import Job
from volvox.infrastructure.pods import Pod, read_pod, would_fit

RUN_LABEL = "prefect.io/flow-run-id"
POOL_LABEL = "prefect.io/work-pool-id"

_LEAVES_SECONDS = 5.0  # beyond the grace: the kubelet tells of an end a second or two later
_LOOK_SECONDS = 0.3
_EARLY = datetime.min.replace(tzinfo=UTC)


class KubernetesEngine:
    """The Jobs of one namespace that carry the label of a flow run."""

    kind = "kubernetes"

    def __init__(
        self,
        namespace: str = "default",
        config: dict[str, Any] | None = None,
        context: str | None = None,
        unschedulable_seconds: float = 8.0,
    ) -> None:
        """Look at one namespace of a cluster.

        Args:
            namespace: Where the Jobs are.
            config: A kubeconfig's content; none: this pod's service account, else `KUBECONFIG` or `~/.kube/config`.
            context: Which of its contexts; none: the current one.
            unschedulable_seconds: How long a pod that fits no node, even an empty one, may wait for a new node. A
                pod that waits for others to end waits as long as it takes.
        """
        self.namespace = namespace
        self._cluster = Cluster(config, context, rights="; give the account the rights that docs/pools.md lists")
        self._unschedulable_seconds = unschedulable_seconds
        self._outputs: dict[str, str] = {}
        self._causes: dict[str, str] = {}

    async def jobs(self) -> list[Job]:
        """Every Kubernetes Job of a flow run, and every pod whose Job is gone already.

        Raises:
            Unavailable: If the cluster does not answer.
        """
        async with self._errors("list jobs"):
            jobs, pods = await asyncio.gather(
                self._list(f"/apis/batch/v1/namespaces/{self.namespace}/jobs"),
                self._list(f"/api/v1/namespaces/{self.namespace}/pods"),
            )
            if _out_of_date(jobs, pods):
                listed = {one["metadata"]["uid"] for one in pods}
                again = await self._list(f"/api/v1/namespaces/{self.namespace}/pods")
                pods = [one for one in again if one["metadata"]["uid"] in listed]
            nodes: list[dict[str, Any]] | None = None
            of_job: dict[str, list[Pod]] = {}
            for one in pods:
                pod = read_pod(one)
                if pod.unschedulable and nodes is None:
                    nodes = await self._nodes()
                of_job.setdefault(pod.job, []).append(await self._looked_at(pod, one, nodes))
            there = {job["metadata"]["name"] for job in jobs}
            result = [read_job(job, of_job.get(job["metadata"]["name"], [])) for job in jobs]
            result += [_orphan(self.namespace, pods) for name, pods in of_job.items() if name not in there]
        uids = {one["metadata"]["uid"] for one in pods}
        self._outputs = {uid: output for uid, output in self._outputs.items() if uid in uids}
        self._causes = {uid: cause for uid, cause in self._causes.items() if uid in uids}
        return result

    async def end(self, job: Job, grace_seconds: float) -> None:
        """Delete a Job and its pods, and wait until no pod is left.

        The Job goes first, or it would make a new pod; the pods are deleted by us, as their own grace may be longer.

        Raises:
            Unavailable: If the cluster does not answer, or a pod does not go.
        """
        name = job.identifier.rpartition(":")[2]
        async with self._errors("delete a job"):
            await self._cluster.delete(f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{name}", "Background")
            deadline = time.monotonic() + grace_seconds + _LEAVES_SECONDS
            grace = max(1, round(grace_seconds))  # zero would not wait for the kubelet
            while pods := await self._list(f"/api/v1/namespaces/{self.namespace}/pods", f"job-name={name}"):
                if time.monotonic() > deadline:
                    grace = 0  # its node is gone, or does not answer: nobody else would ever remove it
                    deadline += _LEAVES_SECONDS
                if grace is not None:
                    for pod in pods:
                        await self._cluster.delete(
                            f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}", "Background", grace
                        )
                    if grace == 0:
                        return
                    grace = None
                await asyncio.sleep(_LOOK_SECONDS)

    def covers(self, identifier: str) -> bool:
        """Whether the identifier names a Job of this namespace."""
        return identifier.startswith(f"{self.namespace}:")

    async def why_not(self) -> str:
        """Why the cluster cannot be used; empty if it lists Jobs."""
        try:
            async with self._errors("list jobs"):
                await self._cluster.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs", [("limit", "1")])
        except Unavailable as error:
            return str(error)
        return ""

    async def close(self) -> None:
        """Give back the connection."""
        await self._cluster.close()

    # -- inside --------------------------------------------------------------------------------------------------

    async def _looked_at(self, pod: Pod, one: dict[str, Any], nodes: list[dict[str, Any]] | None) -> Pod:
        """What only further questions tell: the cause of an image's failure, the last lines, whether a node fits."""
        if pod.reason == "image_refused" and pod.image:  # the status forgets what the registry said after a moment
            cause = self._causes.get(pod.uid) or await self._cause(pod.name)
            if cause:
                self._causes[pod.uid] = cause
                reason, message = told.image_trouble(pod.image, cause, self.kind)
                return pod.with_(reason=reason, message=message)
        if pod.reason == "error" and pod.exit_code:
            if pod.uid not in self._outputs:
                self._outputs[pod.uid] = await self._output(pod.name)
            output = self._outputs[pod.uid]
            return pod.with_(output=output, message=told.ended_badly(pod.exit_code, "pod", output))
        if pod.unschedulable:
            waited = (datetime.now(UTC) - pod.since).total_seconds() if pod.since else 0.0
            never = nodes is not None and not would_fit(one, nodes)
            if never and waited > self._unschedulable_seconds:
                said = f"no node can take the pod: {pod.message}; ask for less (cpu, memory_mb, gpus), or add a node"
                return pod.with_(state="stuck", reason="unschedulable", message=said)
        return pod

    async def _cause(self, pod: str) -> str:
        """What the kubelet said when it could not fetch an image."""
        selector = f"involvedObject.name={pod},reason=Failed"
        events = await self._cluster.get(f"/api/v1/namespaces/{self.namespace}/events", [("fieldSelector", selector)])
        said = [event.get("message", "") for event in events["items"]]
        return next((text for text in said if "pull" in text.lower() and ":" in text), "")

    async def _output(self, pod: str) -> str:
        from kubernetes_asyncio.client.exceptions import ApiException

        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        try:
            return (await self._cluster.text(path, [("tailLines", str(told.OUTPUT_LINES))])).strip()
        except ApiException:  # of a container that never started there is none
            return ""

    async def _nodes(self) -> list[dict[str, Any]] | None:
        """The cluster's nodes; none if this account may not ask."""
        from kubernetes_asyncio.client.exceptions import ApiException

        try:
            return (await self._cluster.get("/api/v1/nodes", []))["items"]
        except ApiException:
            return None

    async def _list(self, path: str, selector: str = RUN_LABEL) -> list[dict[str, Any]]:
        return await self._cluster.items(path, selector)

    @contextlib.asynccontextmanager
    async def _errors(self, doing: str) -> AsyncIterator[None]:
        """The client's errors as ours; whatever they are, the cluster cannot be used."""
        try:
            async with self._cluster.errors(doing, f"namespace {self.namespace!r}"):
                yield
        except VolvoxError as error:
            raise error if isinstance(error, Unavailable) else Unavailable(str(error)) from error


def read_job(job: dict[str, Any], pods: Iterable[Pod]) -> Job:
    """A job as a Kubernetes Job and its pods tell it.

    Args:
        job: The Job, as the API gives it.
        pods: Its pods. Of several that run at once the first that failed tells why; else the newest counts, which
            replaced those before it.
    """
    meta, status = job["metadata"], job.get("status", {})
    failed = _condition(status, "Failed")
    done = _condition(status, "Complete")
    common: dict[str, Any] = {
        "run_id": meta["labels"][RUN_LABEL],
        "pool_id": meta["labels"].get(POOL_LABEL, ""),
        "identifier": f"{meta['namespace']}:{meta['name']}",
        "name": f"Kubernetes job {meta['name']}",
        "created": told_time(meta.get("creationTimestamp")),
    }
    pod = _telling(list(pods), parallel=(job["spec"].get("parallelism") or 1) > 1, failed=failed is not None)
    if pod is not None:
        if pod.live and failed is not None:  # e.g. its deadline has passed: the pod is being ended
            return Job(**common, state="ended", reason="error", message=_failed(failed), ended=_at(failed))
        return Job(
            **common,
            state=pod.state,
            exit_code=pod.exit_code,
            reason=pod.reason,
            message=pod.message,
            output=pod.output,
            started=pod.started,
            ended=pod.ended,
        )
    if done is not None:
        return Job(**common, state="ended", exit_code=0, ended=_at(done))
    if failed is not None:
        return Job(**common, state="ended", reason="gone", message=_failed(failed), ended=_at(failed))
    return Job(**common, state="waiting")


def _out_of_date(jobs: list[dict[str, Any]], pods: list[dict[str, Any]]) -> bool:
    """Whether a Job has failed since its pods were listed: they tell why, it only says that they failed."""
    failed = {job["metadata"]["name"] for job in jobs if _condition(job.get("status", {}), "Failed") is not None}
    return bool(failed) and any(pod.live for pod in map(read_pod, pods) if pod.job in failed)


def _telling(pods: list[Pod], parallel: bool, failed: bool) -> Pod | None:
    """The pod that tells how the Job is doing."""
    pods = sorted(pods, key=lambda pod: pod.created or _EARLY)
    if not parallel or not pods:
        return pods[-1] if pods else None
    stuck = [pod for pod in pods if pod.state == "stuck"]
    live = [] if failed else [pod for pod in pods if pod.live]
    bad = sorted((pod for pod in pods if pod.reason), key=lambda pod: pod.ended or _EARLY)
    return [*stuck, *live, *bad, pods[-1]][0]


def told_time(written: str | None) -> datetime | None:
    """A time as the API writes it."""
    return datetime.fromisoformat(written) if written else None


def _orphan(namespace: str, pods: list[Pod]) -> Job:
    """Pods whose Job was deleted: they are on their way out, or were left behind."""
    pod = next((pod for pod in pods if pod.live), pods[0])
    return Job(
        run_id=pod.run_id,
        pool_id=pod.pool_id,
        identifier=f"{namespace}:{pod.job}",
        name=f"Kubernetes job {pod.job}",
        state="running" if pod.live else "ended",
        exit_code=pod.exit_code,
        reason=pod.reason or "gone",
        message=pod.message or told.vanished("Kubernetes job"),
        output=pod.output,
        created=pod.created,
        started=pod.started,
        ended=pod.ended,
    )


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """A condition of a Job that holds."""
    return next((c for c in status.get("conditions") or [] if c["type"] == kind and c["status"] == "True"), None)


def _failed(condition: dict[str, Any]) -> str:
    return f"the Kubernetes job failed ({condition.get('reason', '?')}): {condition.get('message', 'no more is said')}"


def _at(condition: dict[str, Any]) -> datetime | None:
    return told_time(condition.get("lastTransitionTime"))

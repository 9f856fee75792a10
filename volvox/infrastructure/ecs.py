"""ECS tasks of flow runs."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from volvox.errors import Unavailable
from volvox.infrastructure import jobs as told
from volvox.infrastructure.jobs import Job

RUN_TAG = "prefect.io/flow-run-id"
POOL_TAG = "prefect.io/work-pool-id"
# Prefect's worker sets it (spelt so) on a task whose definition was made for it alone.
_DEREGISTER_TAG = "prefect.io/degregister-task-definition"

_ANSWERS_SECONDS = 10.0
_DESCRIBED_AT_ONCE = 100
_LEAVES_SECONDS = 30.0  # ECS ends a task by force after its `stopTimeout`, 30 s unless its definition says otherwise
_LOOK_SECONDS = 0.5
_STATES: dict[str, told.State] = {"PROVISIONING": "waiting", "PENDING": "starting", "ACTIVATING": "starting"}
_CONTAINER = "prefect"
# What only a registry says, whatever ECS calls the error.
_OF_REGISTRY = re.compile(r"/v2/|manifest unknown|no basic auth|unauthorized|denied: requested|pull access denied")


class EcsEngine:
    """The tasks of one cluster that carry the tag of a flow run."""

    kind = "ecs"

    def __init__(self, cluster: str = "", client: Callable[[], Any] | None = None) -> None:
        """Look at one cluster.

        Args:
            cluster: Its name or ARN; empty: the account's default one.
            client: Makes a boto3 client of ECS; none: by the environment's credentials and region.
        """
        self.cluster = cluster
        self._make = client or _client
        self._kept: Any = None
        self._lock = threading.Lock()
        self._stopped: dict[str, Job | None] = {}  # by ARN: a stopped task never changes, and is shown for an hour

    async def jobs(self) -> list[Job]:
        """Every task of a flow run that runs, or stopped within the last hour.

        Raises:
            Unavailable: If AWS does not answer, or refuses.
        """
        return await asyncio.to_thread(self._jobs)

    async def end(self, job: Job, grace_seconds: float) -> None:
        """Stop a task and deregister the definition that was made for it alone.

        Between the request and the end by force ECS waits the `stopTimeout` of the definition, whatever
        `grace_seconds` says.

        Raises:
            Unavailable: If AWS does not answer, or the task does not stop.
        """
        del grace_seconds
        await asyncio.to_thread(self._end, job.identifier.partition("::")[2])

    def covers(self, identifier: str) -> bool:
        """Whether the identifier names a task of this cluster."""
        cluster, _, task = identifier.partition("::")
        name = cluster.rpartition("/")[2]
        return bool(task) and name == (self.cluster.rpartition("/")[2] or "default")

    async def why_not(self) -> str:
        """Why ECS cannot be used; empty if it answers and knows the cluster."""
        try:
            return await asyncio.to_thread(self._why_not)
        except Unavailable as error:
            return str(error)

    async def close(self) -> None:
        """Give back the connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    # -- inside, in a thread -------------------------------------------------------------------------------------

    def _jobs(self) -> list[Job]:
        with self._errors("list tasks"):
            arns = [*self._list("RUNNING"), *self._list("STOPPED")]
            asked = [arn for arn in arns if arn not in self._stopped]
            jobs = [job for arn in arns if (job := self._stopped.get(arn)) is not None]
            for start in range(0, len(asked), _DESCRIBED_AT_ONCE):
                batch = asked[start : start + _DESCRIBED_AT_ONCE]
                for task in self._ecs.describe_tasks(**self._where, tasks=batch, include=["TAGS"])["tasks"]:
                    job = read_task(task, self.cluster)
                    if task["lastStatus"] == "STOPPED":
                        self._stopped[task["taskArn"]] = job
                    if job is not None:
                        jobs.append(job)
        self._stopped = {arn: job for arn, job in self._stopped.items() if arn in set(arns)}
        return jobs

    def _list(self, status: str) -> list[str]:
        pages = self._ecs.get_paginator("list_tasks").paginate(**self._where, desiredStatus=status)
        return [arn for page in pages for arn in page["taskArns"]]

    def _end(self, arn: str) -> None:
        from botocore.exceptions import ClientError

        with self._errors("stop a task"):
            found = self._describe(arn)
            if found is None:
                return
            if found["lastStatus"] != "STOPPED":
                try:
                    self._ecs.stop_task(**self._where, task=arn, reason="ended by Volvox: its flow run is over")
                except ClientError as error:  # it stopped in between
                    if error.response["Error"]["Code"] != "InvalidParameterException":
                        raise
            tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
            if tags.get(_DEREGISTER_TAG) == "true":
                with contextlib.suppress(ClientError):  # another task's end did it
                    self._ecs.deregister_task_definition(taskDefinition=found["taskDefinitionArn"])
            deadline = time.monotonic() + _LEAVES_SECONDS
            while (found := self._describe(arn)) and found["lastStatus"] != "STOPPED":
                if time.monotonic() > deadline:
                    raise Unavailable(f"ECS task {arn} was told to stop {_LEAVES_SECONDS:.0f} s ago and still runs")
                time.sleep(_LOOK_SECONDS)

    def _describe(self, arn: str) -> dict[str, Any] | None:
        tasks = self._ecs.describe_tasks(**self._where, tasks=[arn], include=["TAGS"])["tasks"]
        return tasks[0] if tasks else None

    def _why_not(self) -> str:
        with self._errors("describe the cluster"):
            name = self.cluster or "default"
            found = self._ecs.describe_clusters(clusters=[name])["clusters"]
            if not any(cluster["status"] == "ACTIVE" for cluster in found):
                return f"there is no active ECS cluster {name!r} in region {self._ecs.meta.region_name}"
            return ""

    @property
    def _where(self) -> dict[str, str]:
        return {"cluster": self.cluster} if self.cluster else {}

    @property
    def _ecs(self) -> Any:
        with self._lock:
            if self._kept is None:
                self._kept = self._make()
            return self._kept

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """The SDK's errors as ours; they carry no credentials."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            said = error.response["Error"]
            raise Unavailable(f"AWS refused to {doing}: {said.get('Code')}: {said.get('Message')}") from error
        except BotoCoreError as error:
            raise Unavailable(f"AWS did not {doing}: {error}") from error


def read_task(task: dict[str, Any], cluster: str = "") -> Job | None:
    """A job as ECS tells its task; none if the task is of no flow run.

    Args:
        task: What DescribeTasks gives, with its tags.
        cluster: As the pool names it: Prefect writes that into the identifier, and the ARN if it names none.
    """
    tags = {tag["key"]: tag["value"] for tag in task.get("tags", [])}
    if RUN_TAG not in tags:
        return None
    arn, status = task["taskArn"], task["lastStatus"]
    common: dict[str, Any] = {
        "run_id": tags[RUN_TAG],
        "pool_id": tags.get(POOL_TAG, ""),
        "identifier": f"{cluster or task['clusterArn']}::{arn}",
        "name": f"ECS task {arn.rpartition('/')[2]}",
        "created": task.get("createdAt"),
        "started": task.get("startedAt"),
    }
    if status != "STOPPED":
        return Job(**common, state=_STATES.get(status, "running"))
    containers = task.get("containers", [])
    container = next((one for one in containers if one.get("name") == _CONTAINER), containers[0] if containers else {})
    code = container.get("exitCode")
    reason, message = _why(task, container, code)
    return Job(
        **common, state="ended", exit_code=code, reason=reason, message=message, ended=task.get("stoppedAt")
    )  # fmt: skip


def _why(task: dict[str, Any], container: dict[str, Any], code: int | None) -> tuple[told.Reason, str]:
    """The reason why a task stopped, and its sentence."""
    said = " ".join(filter(None, [container.get("reason"), task.get("stoppedReason")]))
    if "OutOfMemory" in said:
        megabytes = _memory(task, container)
        return "out_of_memory", told.out_of_memory(megabytes * 2**20 if megabytes else None, "task")
    if "CannotPull" in said or _OF_REGISTRY.search(said):
        return told.image_trouble(container.get("image") or "of the task", said, "ecs")
    if code == 0:
        return "", ""
    if task.get("stopCode") in ("SpotInterruption", "TerminationNotice", "UserInitiated"):
        return "gone", f"the task was stopped from outside: {said or task['stopCode']}; run it again"
    if code is None or "CannotStart" in said or task.get("stopCode") == "TaskFailedToStart":
        return "error", f"the task could not be started: {said or 'ECS gives no reason'}"
    return "error", told.ended_badly(code, "task")


def _memory(task: dict[str, Any], container: dict[str, Any]) -> float | None:
    """Its memory limit in MB."""
    for one in task.get("overrides", {}).get("containerOverrides", []):
        if one.get("name") == container.get("name") and one.get("memory"):
            return float(one["memory"])
    written = container.get("memory") or task.get("overrides", {}).get("memory") or task.get("memory")
    return float(written) if written else None


def _client() -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_ANSWERS_SECONDS / 2,
        read_timeout=_ANSWERS_SECONDS,
        retries={"total_max_attempts": 2, "mode": "standard"},
    )
    return boto3.client("ecs", config=config)

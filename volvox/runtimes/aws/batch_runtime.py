"""Functions on AWS Batch: a job for each call, on machines that are there only while there are jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.errors import Unavailable
from volvox.functions.definition import Function
from volvox.runtimes.aws.account import Account, code_of, section, told
from volvox.runtimes.aws.batch_objects import BatchObjects
from volvox.runtimes.aws.job_runtime import JobRuntime
from volvox.runtimes.aws.jobs import Seen
from volvox.runtimes.aws.limits import settings_of_many_nodes

_LOG_GROUP = "/aws/batch/job"
_BEGUN = ("RUNNING", "SUCCEEDED", "FAILED")


class BatchRuntime(JobRuntime):
    """Jobs of Batch."""

    name = "batch"

    def ensure(self, account: Account, function: Function, image: str, role: str) -> dict[str, str]:
        """As `JobRuntime.ensure`."""
        names = BatchObjects(account, self.owner).ensure(function, image, role, variables_of(function))
        return {"queue": names.queue, "definition": names.definition}

    def keep(self, account: Account, function: Function, made: Mapping[str, str]) -> None:
        """As `JobRuntime.keep`."""
        BatchObjects(account, self.owner).keep(function, made["definition"])

    def memory_mb(self, function: Function) -> int:
        """As `JobRuntime.memory_mb`; Batch may have more than Lambda (`batch.memory`)."""
        return int(section(function, "batch").get("memory") or super().memory_mb(function))

    def engine(self, account: Account, function: Function, made: Mapping[str, str]) -> BatchEngine:
        """As `JobRuntime.engine`."""
        nodes = int(str(settings_of_many_nodes(function).get("number_nodes") or 0))
        return BatchEngine(account, made["queue"], made["definition"], nodes)

    def unmake(self, account: Account, function: Function) -> None:
        """As `JobRuntime.unmake`."""
        BatchObjects(account, self.owner).remove(function)


class BatchEngine:
    """Jobs of one queue."""

    def __init__(self, account: Account, queue: str, definition: str, nodes: int = 0) -> None:
        """Submit jobs of `definition` to `queue`; of several machines each, if `nodes` says so."""
        self._account, self._queue, self._definition, self._nodes = account, queue, definition, nodes

    def submit(self, name: str, variables: dict[str, str]) -> str:
        """As `jobs.Engine.submit`."""
        environment = [{"name": key, "value": value} for key, value in variables.items()]
        overrides: dict[str, Any] = {"containerOverrides": {"environment": environment}}
        if self._nodes:
            override = {"targetNodes": f"0:{self._nodes - 1}", **overrides}
            overrides = {"nodeOverrides": {"nodePropertyOverrides": [override]}}
        from botocore.exceptions import ClientError

        with told("submit a job to Batch"):
            try:
                return self._batch.submit_job(
                    jobName=name[:128], jobQueue=self._queue, jobDefinition=self._definition, **overrides
                )["jobId"]
            except ClientError as error:
                if why := self._why_closed():
                    raise Unavailable(f"{why}; volvox functions check NAME --repair opens it again") from error
                raise

    def look(self, identifier: str) -> Seen | None:
        """As `jobs.Engine.look`."""
        with told("look at a job of Batch"):
            found = self._batch.describe_jobs(jobs=[identifier])["jobs"]
        return seen_of(found[0]) if found else None

    def end(self, identifier: str, reason: str) -> None:
        """As `jobs.Engine.end`."""
        from botocore.exceptions import ClientError

        with told("end a job of Batch"):
            try:
                self._batch.terminate_job(jobId=identifier, reason=reason)
            except ClientError as error:
                if code_of(error) != "ClientException":  # it has ended
                    raise

    def log(self, identifier: str) -> str:
        """As `jobs.Engine.log`."""
        from volvox.runtimes.aws.invoking import stream_log

        with told("look at a job of Batch"):
            found = self._batch.describe_jobs(jobs=[identifier])["jobs"]
        name = found[0].get("container", {}).get("logStreamName") if found else None
        return stream_log(self._account, _LOG_GROUP, str(name)) if name else ""

    def _why_closed(self) -> str:
        """Why the queue takes no jobs; empty: it does, or nobody can tell."""
        from botocore.exceptions import ClientError

        try:
            found = self._batch.describe_job_queues(jobQueues=[self._queue])["jobQueues"]
        except ClientError:
            return ""
        if not found:
            return f"the job queue {self._queue} is gone"
        return f"the job queue {self._queue} is disabled" if found[0].get("state") == "DISABLED" else ""

    @property
    def _batch(self) -> Any:
        return self._account.client("batch")


def seen_of(job: Mapping[str, Any]) -> Seen:
    """What `DescribeJobs` tells of a job; the reason is AWS' own, of a wait too."""
    state, container = str(job["status"]), job.get("container") or {}
    attempts = job.get("attempts") or [{}]
    inner = attempts[-1].get("container") or {}
    said = [job.get("statusReason"), container.get("reason") or inner.get("reason")]
    code = container.get("exitCode", inner.get("exitCode"))
    ended = state in ("SUCCEEDED", "FAILED")
    return Seen(
        state, ended, state == "FAILED", "; ".join(str(one) for one in said if one), code, begun=state in _BEGUN
    )  # fmt: skip


def variables_of(function: Function) -> dict[str, str]:
    """Variables of the container beside those that a call has (`batch.environment.Variables`)."""
    given = section(function, "batch", "environment").get("Variables") or {}
    return {str(name): str(value) for name, value in given.items()}

"""Functions on Amazon ECS: a task for the calls that come together, on Fargate or on machines of a cluster.

Settings, all below `ecs`: `cluster` (the account's default one), `launch_type` (FARGATE, EC2), `subnets`,
`security_group_ids`, `environment.Variables`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.errors import InvalidInput, Unavailable
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.runtimes.aws.account import (
    DIGEST,
    OWNER,
    Account,
    code_of,
    is_missing,
    name_of,
    section,
    tags,
    told,
    unless_missing,
)
from volvox.runtimes.aws.images import wanted_architecture
from volvox.runtimes.aws.job_runtime import JobRuntime
from volvox.runtimes.aws.jobs import Seen
from volvox.runtimes.aws.limits import container_size, fargate_size
from volvox.runtimes.aws.network import subnets_and_groups

_CONTAINER = "function"
_BEGUN = ("RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED")


class EcsRuntime(JobRuntime):
    """Tasks of ECS."""

    name = "ecs"
    together = True

    def refuse(self, function: Function) -> None:
        """As `JobRuntime.refuse`."""
        if function.scaling.min_scale:
            raise InvalidInput(
                f"function {function.name!r} wants {function.scaling.min_scale} instances always, which on ECS would "
                "be a service; here it runs tasks, which end with their calls: say min_scale: 0, or name runtime lambda"
            )
        if launch_type(function) == "FARGATE" and function.resources.gpus:
            raise InvalidInput(
                f"function {function.name!r} asks for a GPU, which Fargate has not: say ecs.launch_type: EC2, with a "
                "cluster that has machines with GPUs, or name runtime batch"
            )

    def ensure(self, account: Account, function: Function, image: str, role: str) -> dict[str, str]:
        """As `JobRuntime.ensure`."""
        ecs, name = account.client("ecs"), name_of(function.name)
        cluster = str(section(function, "ecs").get("cluster") or "")
        group = f"/aws/ecs/{name}"
        wanted = definition_of(account, function, image, role, group)
        digest = digest_of(wanted)
        with told(f"make the task definition {name}"):
            found = ecs.describe_clusters(clusters=[cluster or "default"])["clusters"]
            if not any(one.get("status") == "ACTIVE" for one in found):
                if cluster:
                    raise InvalidInput(
                        f"there is no active ECS cluster {cluster!r} in {account.region}; name another as ecs.cluster"
                    )
                ecs.create_cluster(clusterName="default")
            _ensure_group(account, group)
            for arn in self._definitions(account, name):
                told_ = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
                if {one["key"]: one["value"] for one in told_.get("tags", [])}.get(DIGEST) == digest:
                    return {"cluster": cluster, "definition": arn, "group": group}
            made = [{"key": key, "value": value} for key, value in tags(function.name, self.owner, digest).items()]
            arn = ecs.register_task_definition(family=name, tags=made, **wanted)["taskDefinition"]["taskDefinitionArn"]
        return {"cluster": cluster, "definition": str(arn), "group": group}

    def keep(self, account: Account, function: Function, made: Mapping[str, str]) -> None:
        """As `JobRuntime.keep`."""
        ecs, name = account.client("ecs"), name_of(function.name)
        with told(f"tidy up the task definition {name}"):
            for arn in self._definitions(account, name):
                if arn != made["definition"]:
                    ecs.deregister_task_definition(taskDefinition=arn)

    def engine(self, account: Account, function: Function, made: Mapping[str, str]) -> EcsEngine:
        """As `JobRuntime.engine`."""
        return EcsEngine(account, function, made, self.owner)

    def unmake(self, account: Account, function: Function) -> None:
        """As `JobRuntime.unmake`; the cluster stays."""
        ecs, name = account.client("ecs"), name_of(function.name)
        with told(f"remove the task definition {name}"):
            for arn in self._definitions(account, name):
                ecs.deregister_task_definition(taskDefinition=arn)
        group = f"/aws/ecs/{name}"
        with told(f"remove the log {group}"), unless_missing():
            account.client("logs").delete_log_group(logGroupName=group)

    @staticmethod
    def _definitions(account: Account, name: str) -> list[str]:
        pages = account.client("ecs").get_paginator("list_task_definitions")
        found = [
            arn for page in pages.paginate(familyPrefix=name, status="ACTIVE") for arn in page["taskDefinitionArns"]
        ]  # fmt: skip
        return [arn for arn in found if arn.rpartition("/")[2].rpartition(":")[0] == name]


class EcsEngine:
    """Tasks of one cluster."""

    def __init__(self, account: Account, function: Function, made: Mapping[str, str], owner: str) -> None:
        """Run tasks of the definition that was made for a function."""
        self._account, self._made, self._owner = account, made, owner
        self._kind, given = launch_type(function), section(function, "ecs")
        self._subnets: list[str] = list(given.get("subnets") or [])
        self._groups: list[str] = list(given.get("security_group_ids") or [])

    def submit(self, name: str, variables: dict[str, str]) -> str:
        """As `jobs.Engine.submit`."""
        self._subnets, self._groups = subnets_and_groups(self._account, self._subnets, self._groups)
        network: dict[str, Any] = {"subnets": self._subnets, "securityGroups": self._groups}
        if self._kind == "FARGATE":
            network["assignPublicIp"] = "ENABLED"  # else it reaches neither ECR nor S3
        environment = [{"name": key, "value": value} for key, value in variables.items()]
        with told("run a task on ECS"):
            answer = self._ecs.run_task(
                **self._where, taskDefinition=self._made["definition"], launchType=self._kind, count=1,
                networkConfiguration={"awsvpcConfiguration": network}, startedBy=name[:36],
                overrides={"containerOverrides": [{"name": _CONTAINER, "environment": environment}]},
                tags=[{"key": OWNER, "value": self._owner}],
            )  # fmt: skip
            if not answer.get("tasks"):
                said = "; ".join(str(one.get("reason")) for one in answer.get("failures", [])) or "no reason"
                raise Unavailable(f"ECS has no place for a task now ({said})")
        return answer["tasks"][0]["taskArn"]

    def look(self, identifier: str) -> Seen | None:
        """As `jobs.Engine.look`."""
        with told("look at a task of ECS"):
            found = self._ecs.describe_tasks(**self._where, tasks=[identifier])["tasks"]
        return seen_of(found[0]) if found else None

    def end(self, identifier: str, reason: str) -> None:
        """As `jobs.Engine.end`."""
        from botocore.exceptions import ClientError

        with told("end a task of ECS"):
            try:
                self._ecs.stop_task(**self._where, task=identifier, reason=reason)
            except ClientError as error:
                if code_of(error) != "InvalidParameterException" and not is_missing(error):  # it has ended
                    raise

    def log(self, identifier: str) -> str:
        """As `jobs.Engine.log`."""
        from volvox.runtimes.aws.invoking import stream_log

        stream = f"{_CONTAINER}/{_CONTAINER}/{identifier.rpartition('/')[2]}"
        return stream_log(self._account, self._made["group"], stream)

    @property
    def _where(self) -> dict[str, str]:
        return {"cluster": self._made["cluster"]} if self._made["cluster"] else {}

    @property
    def _ecs(self) -> Any:
        return self._account.client("ecs")


def launch_type(function: Function) -> str:
    """FARGATE, or EC2 where the definition says so.

    Raises:
        InvalidInput: If it says something else.
    """
    kind = str(section(function, "ecs").get("launch_type") or "FARGATE").upper()
    if kind not in ("FARGATE", "EC2"):
        raise InvalidInput(f"ecs.launch_type is {kind}; give FARGATE or EC2")
    return kind


def definition_of(account: Account, function: Function, image: str, role: str, group: str) -> dict[str, Any]:
    """A task definition, as ECS is asked to register it."""
    needs, kind = function.resources, launch_type(function)
    cpu, memory = container_size(function)
    if kind == "FARGATE":
        cpu, memory = fargate_size(cpu, memory)
    given = section(function, "ecs", "environment").get("Variables") or {}
    container: dict[str, Any] = {
        "name": _CONTAINER, "image": image, "essential": True, "memory": memory,
        "environment": [{"name": str(key), "value": str(value)} for key, value in sorted(given.items())],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": group, "awslogs-region": account.region, "awslogs-stream-prefix": _CONTAINER},
        },
    }  # fmt: skip
    if needs.gpus:
        container["resourceRequirements"] = [{"type": "GPU", "value": str(needs.gpus)}]
    found: dict[str, Any] = {
        "containerDefinitions": [container], "networkMode": "awsvpc", "taskRoleArn": role, "executionRoleArn": role,
        "requiresCompatibilities": [kind], "cpu": str(round(cpu * 1024)), "memory": str(memory),
    }  # fmt: skip
    if wanted_architecture(function) == "arm64":
        found["runtimePlatform"] = {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}
    if kind == "FARGATE" and needs.storage_mb:
        found["ephemeralStorage"] = {"sizeInGiB": max(21, -(-needs.storage_mb // 1024))}
    return found


def seen_of(task: Mapping[str, Any]) -> Seen:
    """What `DescribeTasks` tells of a task."""
    state = str(task["lastStatus"])
    containers = task.get("containers") or [{}]
    said = [task.get("stoppedReason"), task.get("stopCode"), containers[0].get("reason")]
    code = containers[0].get("exitCode")
    ended = state == "STOPPED"
    failed = ended and code != 0
    reason = "; ".join(str(one) for one in said if one) if failed or not ended else ""
    return Seen(state, ended, failed, reason, code, begun=state in _BEGUN)


def _ensure_group(account: Account, group: str) -> None:
    logs = account.client("logs")
    found = logs.describe_log_groups(logGroupNamePrefix=group).get("logGroups", [])
    if not any(one["logGroupName"] == group for one in found):
        logs.create_log_group(logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=30)

"""Functions on Amazon ECS, on Fargate or on machines of a cluster: a task for the calls that come together.

With `min_scale` it is a service, whose tasks stay (`volvox.runtimes.aws.ecs_services`). Its settings are those of
`volvox.runtimes.aws.ecs_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.errors import InvalidInput, Unavailable
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.runner.queued import QUEUE
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
from volvox.runtimes.aws.ecs_services import EcsServices, ServiceEngine
from volvox.runtimes.aws.ecs_settings import cluster_of, launch_type, network_of
from volvox.runtimes.aws.images import wanted_architecture
from volvox.runtimes.aws.job_runtime import JobRuntime
from volvox.runtimes.aws.jobs import Engine, Seen
from volvox.runtimes.aws.limits import container_size, fargate_size
from volvox.runtimes.aws.scratch import needed
from volvox.runtimes.aws.threads import off

_CONTAINER = "function"
_STOP_SECONDS = 120  # that a task of a service has to answer what it is at; ECS takes no more
_BEGUN = ("RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED")


class EcsRuntime(JobRuntime):
    """Tasks of ECS."""

    name = "ecs"
    together = True

    def refuse(self, function: Function) -> None:
        """As `JobRuntime.refuse`."""
        if launch_type(function) == "FARGATE" and function.resources.gpus:
            raise InvalidInput(
                f"function {function.name!r} asks for a GPU, which Fargate has not: say ecs.launch_type: EC2, with a "
                "cluster that has machines with GPUs, or name runtime batch"
            )

    def ensure(self, account: Account, function: Function, image: str, role: str) -> dict[str, str]:
        """As `JobRuntime.ensure`."""
        ecs, name = account.client("ecs"), name_of(function.name)
        cluster, group = cluster_of(function), f"/aws/ecs/{name}"
        services = EcsServices(account, self.owner)
        work = services.ensure_queue(function) if function.scaling.min_scale else ""
        wanted = definition_of(account, function, image, role, group, work=work)
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
            arn = next((one for one in self._definitions(account, name) if _digest_at(ecs, one) == digest), "")
            if not arn:
                made = [{"key": key, "value": text} for key, text in tags(function.name, self.owner, digest).items()]
                definition = ecs.register_task_definition(family=name, tags=made, **wanted)["taskDefinition"]
                arn = str(definition["taskDefinitionArn"])
        return {"cluster": cluster, "definition": arn, "group": group, "work": work}

    def keep(self, account: Account, function: Function, made: Mapping[str, str]) -> None:
        """As `JobRuntime.keep`; a service goes over to what was made, or ends where none is wanted any more."""
        ecs, name = account.client("ecs"), name_of(function.name)
        services = EcsServices(account, self.owner)
        if made.get("work"):
            services.ensure(function, made["definition"], network_of(account, function))
        else:
            services.remove(function)
        with told(f"tidy up the task definition {name}"):
            for arn in self._definitions(account, name):
                if arn != made["definition"]:
                    ecs.deregister_task_definition(taskDefinition=arn)

    def prover(self, account: Account, function: Function, made: Mapping[str, str]) -> Engine:
        """As `JobRuntime.prover`: a task beside the service, which answers with the version before meanwhile."""
        return EcsEngine(account, function, made, self.owner)

    def engine(self, account: Account, function: Function, made: Mapping[str, str]) -> Engine:
        """As `JobRuntime.engine`."""
        if made.get("work"):
            return ServiceEngine(account, function, dict(made), needed(account, function))
        return EcsEngine(account, function, made, self.owner)

    async def scale(self, name: str, instances: int) -> None:
        """Of a service have so many tasks at least; else as `JobRuntime.scale`.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
            Unavailable: If AWS does not answer.
        """
        await super().scale(name, instances)
        function = self.function(name)
        if function.scaling.min_scale:
            account = Account.of(function, "batch", "ecs", "lambda")
            await off(lambda: EcsServices(account, self.owner).scale(function, instances))

    def unmake(self, account: Account, function: Function) -> None:
        """As `JobRuntime.unmake`; the cluster stays."""
        ecs, name = account.client("ecs"), name_of(function.name)
        EcsServices(account, self.owner).remove(function)
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
        self._kind, self._function = launch_type(function), function
        self._network: dict[str, Any] = {}

    def submit(self, name: str, variables: dict[str, str]) -> str:
        """As `jobs.Engine.submit`."""
        self._network = self._network or network_of(self._account, self._function)
        environment = [{"name": key, "value": value} for key, value in variables.items()]
        with told("run a task on ECS"):
            answer = self._ecs.run_task(
                **self._where, taskDefinition=self._made["definition"], launchType=self._kind, count=1,
                networkConfiguration=self._network, startedBy=name[:36],
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


def definition_of(
    account: Account, function: Function, image: str, role: str, group: str, *, work: str = ""
) -> dict[str, Any]:
    """A task definition, as ECS is asked to register it; of a service whose tasks take calls from the queue `work`."""
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
    if work:
        container["environment"].append({"name": QUEUE, "value": work})
        container["stopTimeout"] = _STOP_SECONDS
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


def _digest_at(ecs: Any, arn: str) -> str:
    """What a task definition was made of."""
    told_ = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
    return {one["key"]: one["value"] for one in told_.get("tags", [])}.get(DIGEST, "")


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

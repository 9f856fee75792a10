"""What a function needs on AWS Batch: a compute environment, a queue, a job definition; made and mended.

The environment has no machine while there is no job. A changed definition of the job is a new revision; jobs that were
submitted by the one before go on by that one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from volvox.errors import InvalidInput, Unavailable
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.runtimes.aws.account import DIGEST, OWNER, Account, is_missing, name_of, section, tags, told
from volvox.runtimes.aws.images import wanted_architecture
from volvox.runtimes.aws.limits import container_size, fargate_size, fits_fargate, settings_of_many_nodes
from volvox.runtimes.aws.network import subnets_and_groups

_VALID_SECONDS = 300.0
_LOOK_SECONDS = 1.0
_PUBLISH_SECONDS = 120  # beside a call's own time
_GPU_TYPES = ["g4dn", "g5"]


@dataclass(frozen=True, slots=True)
class Names:
    """How Batch knows what belongs to a function.

    Attributes:
        environment: The compute environment.
        queue: The job queue.
        definition: ARN of the job definition's revision.
    """

    environment: str
    queue: str
    definition: str


def kind_of(function: Function) -> str:
    """Which machines: `FARGATE` unless the definition says something else, or asks for what that has not."""
    stated = section(function, "batch", "compute_resources").get("type")
    if stated:
        return str(stated)
    cpu, memory = needs_of(function)
    too_large = not fits_fargate(cpu, memory)
    many = settings_of_many_nodes(function)
    return "EC2" if function.resources.gpus or too_large or many or function.origin == "scar" else "FARGATE"


def needs_of(function: Function) -> tuple[float, int]:
    """Processors and MB of a job: those of `batch` in the settings, where Lambda has others, else the function's."""
    given, (cpu, memory) = section(function, "batch"), container_size(function)
    return float(given.get("vcpus") or cpu), int(given.get("memory") or memory)


class BatchObjects:
    """What one owner's functions have on Batch."""

    def __init__(self, account: Account, owner: str) -> None:
        """`owner` is what everything is tagged with that is made here."""
        self.account, self.owner = account, owner

    def ensure(self, function: Function, image: str, role: str, variables: Mapping[str, str]) -> Names:
        """Have everything there that a job of the function needs; what is as it must be is not written.

        Raises:
            InvalidInput: If Batch refuses, or the environment cannot have machines.
            Unavailable: If AWS does not answer, or the environment is not ready in time.
        """
        name = name_of(function.name)
        self._ensure_environment(function, name)
        self._ensure_queue(function, name)
        return Names(name, name, self._ensure_definition(function, name, image, role, variables))

    def keep(self, function: Function, definition: str) -> None:
        """Have jobs begun by one revision of the definition only, by its ARN; others' jobs go on.

        Raises:
            InvalidInput: If Batch refuses.
            Unavailable: If AWS does not answer.
        """
        name = name_of(function.name)
        with told(f"tidy up the job definition {name}"):
            for one in self._definitions(name):
                if one["jobDefinitionArn"] != definition:
                    self._batch.deregister_job_definition(jobDefinition=one["jobDefinitionArn"])

    def drift(self, function: Function) -> str:
        """What keeps jobs of the function from being begun, in a sentence; empty: nothing."""
        name = name_of(function.name)
        with told(f"look at {name} on Batch"):
            for what, there in (("job queue", self._queue(name)), ("compute environment", self._environment(name))):
                if there is None or there.get("state") == "DISABLED":
                    return f"the {what} {name} is {'not there' if there is None else 'disabled'}"
            return "" if self._definitions(name) else f"the job definition {name} is not there"

    def remove(self, function: Function) -> None:
        """Remove all of it, jobs that wait or run first; what is not there is passed over.

        Raises:
            Unavailable: If AWS does not answer, or something does not end in time.
        """
        name, batch = name_of(function.name), self._batch
        with told(f"remove {name} from Batch"):
            if self._queue(name):
                batch.update_job_queue(jobQueue=name, state="DISABLED")
                self._until(lambda: self._settled(self._queue(name)), f"the queue {name}")
                batch.delete_job_queue(jobQueue=name)
                self._until(lambda: self._queue(name) is None, f"the queue {name}")
            if self._environment(name):
                batch.update_compute_environment(computeEnvironment=name, state="DISABLED")
                self._until(lambda: self._settled(self._environment(name)), f"the compute environment {name}")
                batch.delete_compute_environment(computeEnvironment=name)
            for one in self._definitions(name):
                batch.deregister_job_definition(jobDefinition=one["jobDefinitionArn"])

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _batch(self) -> Any:
        return self.account.client("batch")

    def _ensure_environment(self, function: Function, name: str) -> None:
        batch, given = self._batch, section(function, "batch")
        with told(f"make the compute environment {name}"):
            there = self._environment(name)
            wanted = self._resources(function)
            if there is None:
                role = {"serviceRole": str(given["service_role"])} if given.get("service_role") else {}
                batch.create_compute_environment(
                    computeEnvironmentName=name, type=str(given.get("type") or "MANAGED"),
                    state=str(given.get("state") or "ENABLED"), computeResources=wanted,
                    tags=tags(function.name, self.owner), **role,
                )  # fmt: skip
            else:
                self._refuse_another_s(there, f"compute environment {name}")
                present = there.get("computeResources", {})
                if present.get("maxvCpus") != wanted["maxvCpus"] or there.get("state") == "DISABLED":
                    batch.update_compute_environment(
                        computeEnvironment=name, state="ENABLED", computeResources={"maxvCpus": wanted["maxvCpus"]}
                    )
            self._until(lambda: self._valid(name), f"the compute environment {name}")

    def _ensure_queue(self, function: Function, name: str) -> None:
        batch = self._batch
        with told(f"make the queue {name}"):
            there = self._queue(name)
            if there is None:
                order = [{"order": 1, "computeEnvironment": name}]
                batch.create_job_queue(
                    jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order,
                    tags=tags(function.name, self.owner),
                )  # fmt: skip
            elif there.get("state") == "DISABLED":
                batch.update_job_queue(jobQueue=name, state="ENABLED")
            self._until(lambda: self._settled(self._queue(name)), f"the queue {name}")

    def _ensure_definition(
        self, function: Function, name: str, image: str, role: str, variables: Mapping[str, str]
    ) -> str:
        wanted = self._definition(function, image, role, variables)
        digest = digest_of(wanted)
        with told(f"make the job definition {name}"):
            there = self._definitions(name)
            found = next((one for one in there if one.get("tags", {}).get(DIGEST) == digest), None)
            if found is not None:
                return str(found["jobDefinitionArn"])
            made = self._batch.register_job_definition(
                jobDefinitionName=name, tags=tags(function.name, self.owner, digest), **wanted
            )["jobDefinitionArn"]
        return str(made)

    def _resources(self, function: Function) -> dict[str, Any]:
        """The compute environment's machines, none of them while there is no job."""
        given, kind = section(function, "batch", "compute_resources"), kind_of(function)
        cpu, _ = needs_of(function)
        nodes = int(str(settings_of_many_nodes(function).get("number_nodes") or 1))
        most = int(given.get("max_v_cpus") or max(2, round(cpu * function.scaling.max_scale * nodes + 0.5)))
        subnets, groups = subnets_and_groups(
            self.account, list(given.get("subnets") or []), list(given.get("security_group_ids") or [])
        )
        found: dict[str, Any] = {
            "type": kind, "maxvCpus": most, "subnets": subnets, "securityGroupIds": groups,
        }  # fmt: skip
        if "FARGATE" in kind:
            return found
        types = given.get("instance_types") or (_GPU_TYPES if function.resources.gpus else ["optimal"])
        found |= {
            "minvCpus": int(given.get("min_v_cpus") or 0),
            "desiredvCpus": int(given.get("desired_v_cpus") or 0),
            "instanceTypes": list(types),
            "instanceRole": str(given.get("instance_role") or "ecsInstanceRole"),
        }
        if template := given.get("launch_template_name"):
            found["launchTemplate"] = {"launchTemplateName": str(template)}
        return found

    def _definition(
        self, function: Function, image: str, role: str, variables: Mapping[str, str]
    ) -> dict[str, Any]:  # fmt: skip
        needs, fargate = function.resources, "FARGATE" in kind_of(function)
        cpu, memory = needs_of(function)
        if fargate:
            cpu, memory = fargate_size(cpu, memory)
        required = [
            {"type": "VCPU", "value": f"{cpu:g}" if fargate else str(max(1, round(cpu)))},
            {"type": "MEMORY", "value": str(memory)},
        ]
        if needs.gpus:
            required.append({"type": "GPU", "value": str(needs.gpus)})
        container: dict[str, Any] = {
            "image": image, "jobRoleArn": role, "executionRoleArn": role, "resourceRequirements": required,
            "environment": [{"name": key, "value": value} for key, value in sorted(variables.items())],
        }  # fmt: skip
        if fargate:
            if wanted_architecture(function) == "arm64":
                container["runtimePlatform"] = {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}
            container["networkConfiguration"] = {"assignPublicIp": "ENABLED"}  # else it reaches neither ECR nor S3
            if needs.storage_mb:
                size = max(21, -(-needs.storage_mb // 1024))
                container["ephemeralStorage"] = {"sizeInGiB": size}
        found: dict[str, Any] = {
            "retryStrategy": {"attempts": 1},  # a job is tried again by the inbox, which tells of it
            "timeout": {"attemptDurationSeconds": max(60, round(function.timeout_seconds) + _PUBLISH_SECONDS)},
        }
        many = settings_of_many_nodes(function)
        if not many:
            capabilities = ["FARGATE" if fargate else "EC2"]
            return found | {
                "type": "container", "containerProperties": container, "platformCapabilities": capabilities,
            }  # fmt: skip
        nodes = int(str(many.get("number_nodes") or 10))
        return found | {
            "type": "multinode",
            "nodeProperties": {
                "numNodes": nodes,
                "mainNode": int(str(many.get("main_node_index") or 0)),
                "nodeRangeProperties": [{"targetNodes": f"0:{nodes - 1}", "container": container}],
            },
        }

    def _valid(self, name: str) -> bool:
        there = self._environment(name) or {}
        if there.get("status") == "INVALID":
            why = there.get("statusReason") or "Batch does not say why"
            raise InvalidInput(f"the compute environment {name} can have no machines: {why}")
        return there.get("status", "VALID") == "VALID"

    @staticmethod
    def _settled(there: dict[str, Any] | None) -> bool:
        return there is None or there.get("status", "VALID") in ("VALID", "INVALID", "DELETED")

    def _until(self, true: Any, what: str) -> None:
        deadline = time.monotonic() + _VALID_SECONDS
        while not true():
            if time.monotonic() > deadline:
                raise Unavailable(f"{what} is not ready after {_VALID_SECONDS:.0f} s; do it again")
            time.sleep(_LOOK_SECONDS)

    def _environment(self, name: str) -> dict[str, Any] | None:
        found = self._batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"]
        return next((one for one in found if one.get("status") not in ("DELETED", "DELETING")), None)

    def _queue(self, name: str) -> dict[str, Any] | None:
        found = self._batch.describe_job_queues(jobQueues=[name])["jobQueues"]
        return next((one for one in found if one.get("status") not in ("DELETED", "DELETING")), None)

    def _definitions(self, name: str) -> list[dict[str, Any]]:
        from botocore.exceptions import ClientError

        try:
            found = self._batch.describe_job_definitions(jobDefinitionName=name, status="ACTIVE")
        except ClientError as error:
            if is_missing(error):
                return []
            raise
        return list(found["jobDefinitions"])

    def _refuse_another_s(self, there: dict[str, Any], what: str) -> None:
        owner = there.get("tags", {}).get(OWNER)
        if owner not in (self.owner, None if not there.get("tags") else self.owner):
            raise InvalidInput(
                f"there is a {what} in this account already, and it is another's: give the function another name, or "
                "remove that one"
            )

"""A function with `min_scale` on ECS: a service whose tasks stay, and take calls from a queue of the function's own.

    dispatcher -> event in the scratch folder, its address in the queue -> a task -> reply beside the event

Nobody must reach the tasks: they fetch. How many there are, Application Auto Scaling decides between `min_scale` and
`max_scale`, by how many calls wait; what `scale()` says is the least.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from volvox.errors import InvalidInput, ModuleFailed, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.runner.once import EVENT
from volvox.runner.queued import BEGUN
from volvox.runtimes.aws.account import OWNER, Account, is_missing, name_of, tags, told, unless_missing
from volvox.runtimes.aws.ecs_settings import cluster_of, launch_type
from volvox.runtimes.aws.jobs import Seen
from volvox.runtimes.aws.scratch import Scratch

SUFFIX = "work"  # what the name of the queue ends with
_ROLLOUT_SECONDS = 1800.0
_LOOK_SECONDS = 5.0
_DIMENSION = "ecs:service:DesiredCount"
_HIDDEN_SECONDS = 60  # beyond the function's own time, until a message comes to another task
_LONGEST_HIDDEN = 43_200


class EcsServices:
    """The services of one owner in one account."""

    def __init__(self, account: Account, owner: str) -> None:
        """`owner` is what everything is tagged with that is made here."""
        self._account, self._owner = account, owner

    def ensure_queue(self, function: Function) -> str:
        """URL of the queue that the function's tasks take calls from, made if there is none.

        Raises:
            InvalidInput: If AWS refuses.
            Unavailable: If it does not answer.
        """
        sqs, name = self._account.client("sqs"), name_of(function.name, SUFFIX)
        seconds = min(_LONGEST_HIDDEN, round(function.timeout_seconds) + _HIDDEN_SECONDS)
        with told(f"make the queue {name}"):
            url = self._queue(name)
            if url is None:
                return sqs.create_queue(
                    QueueName=name, Attributes={"VisibilityTimeout": str(seconds)},
                    tags=tags(function.name, self._owner),
                )["QueueUrl"]  # fmt: skip
            there = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
            if there.get("VisibilityTimeout") != str(seconds):
                sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})
        return url

    def ensure(
        self, function: Function, definition: str, network: dict[str, Any],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Have a service that runs tasks of `definition`; it returns when only these run.

        Args:
            function: Whose.
            definition: ARN of the task definition.
            network: Subnets and security groups, as ECS takes them.
            tell: Hears of what is done.

        Raises:
            InvalidInput: If AWS refuses, or another's service has its name.
            ModuleFailed: If the new tasks do not start; those of before go on.
            Unavailable: If AWS does not answer, or is not done in half an hour.
        """
        name, least = name_of(function.name), function.scaling.min_scale
        cluster, kind = cluster_of(function) or "default", launch_type(function)
        wanted: dict[str, Any] = {"taskDefinition": definition, "networkConfiguration": network}
        with told(f"make the service {name}"):
            there = self._service(cluster, name)
            if there is None:
                self._ecs.create_service(
                    cluster=cluster, serviceName=name, desiredCount=least, launchType=kind, propagateTags="SERVICE",
                    deploymentConfiguration={"minimumHealthyPercent": 100, "maximumPercent": 200,
                                             "deploymentCircuitBreaker": {"enable": True, "rollback": True}},
                    tags=[{"key": key, "value": text} for key, text in tags(function.name, self._owner).items()],
                    **wanted,
                )  # fmt: skip
            else:
                self._refuse(there, name, kind)
                present = {**there, "networkConfiguration": _plain(there.get("networkConfiguration"))}
                if (
                    there["desiredCount"] < least
                    or present | {**wanted, "networkConfiguration": _plain(network)} != present
                ):
                    count = max(least, there["desiredCount"])
                    self._ecs.update_service(cluster=cluster, service=name, desiredCount=count, **wanted)
            self._bounded(cluster, name, least, function)
            if self._account.is_amazon:  # others run no tasks of services
                self._rolled_out(cluster, name, definition, tell)

    def scale(self, function: Function, instances: int) -> None:
        """Have so many tasks at least.

        Raises:
            InvalidInput: If AWS refuses.
            Unavailable: If it does not answer.
        """
        name = name_of(function.name)
        with told(f"scale the service {name}"):
            least = max(instances, function.scaling.min_scale)
            self._bounded(cluster_of(function) or "default", name, least, function)

    def remove(self, function: Function) -> None:
        """Remove the service with its tasks, bounds and queue; nothing of what is not there."""
        name, cluster = name_of(function.name), cluster_of(function) or "default"
        with told(f"remove the service {name}"):
            there = self._service(cluster, name)
            if there is not None and self._owner_of(there) == self._owner:
                with unless_missing():
                    self._scaling.deregister_scalable_target(**_target(cluster, name))  # its policy goes with it
                self._ecs.delete_service(cluster=cluster, service=name, force=True)
            queue = name_of(function.name, SUFFIX)
            if (url := self._queue(queue)) is not None:
                with unless_missing():
                    self._account.client("sqs").delete_queue(QueueUrl=url)

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _ecs(self) -> Any:
        return self._account.client("ecs")

    @property
    def _scaling(self) -> Any:
        return self._account.client("application-autoscaling")

    def _queue(self, name: str) -> str | None:
        from botocore.exceptions import ClientError

        try:
            return self._account.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def _service(self, cluster: str, name: str) -> dict[str, Any] | None:
        """The service, if it is there and not about to go."""
        from botocore.exceptions import ClientError

        try:
            found = self._ecs.describe_services(cluster=cluster, services=[name], include=["TAGS"])
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        there = next(iter(found["services"]), None)
        if there is not None and there["status"] == "DRAINING":
            raise Unavailable(f"the service {name} is still being removed; do it again in a minute")
        return there if there is not None and there["status"] == "ACTIVE" else None

    @staticmethod
    def _owner_of(service: dict[str, Any]) -> str:
        return next((one["value"] for one in service.get("tags", []) if one["key"] == OWNER), "")

    def _refuse(self, there: dict[str, Any], name: str, kind: str) -> None:
        """Refuse a service that is another's, or runs on other machines, which cannot be changed."""
        if self._owner_of(there) != self._owner:
            raise InvalidInput(
                f"there is a service {name} in ECS already, and it is not this dispatcher's: give the function another "
                "name, or remove that one"
            )
        if there.get("launchType", kind) != kind:
            raise InvalidInput(
                f"the service {name} runs on {there['launchType']}, and ECS cannot change that to {kind}: remove the "
                "function first, then apply it again"
            )

    def _bounded(self, cluster: str, name: str, least: int, function: Function) -> None:
        """How many tasks there are at least and at most, and by what their number is chosen."""
        target, most = _target(cluster, name), max(least, function.scaling.max_scale)
        found = self._scaling.describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[target["ResourceId"]], ScalableDimension=_DIMENSION
        )["ScalableTargets"]
        if not any((one["MinCapacity"], one["MaxCapacity"]) == (least, most) for one in found):
            self._scaling.register_scalable_target(**target, MinCapacity=least, MaxCapacity=most)
        wanted = _tracking(function)
        policies = self._scaling.describe_scaling_policies(
            ServiceNamespace="ecs", PolicyNames=[name], ResourceId=target["ResourceId"], ScalableDimension=_DIMENSION
        )["ScalingPolicies"]
        if not any(_same(one.get("TargetTrackingScalingPolicyConfiguration"), wanted) for one in policies):
            self._scaling.put_scaling_policy(
                **target, PolicyName=name, PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration=wanted,
            )  # fmt: skip

    def _rolled_out(self, cluster: str, name: str, definition: str, tell: Callable[[str], None]) -> None:
        """Wait until only tasks of `definition` run."""
        deadline, said = time.monotonic() + _ROLLOUT_SECONDS, False
        while True:
            there = self._service(cluster, name)
            if there is None:
                raise Unavailable(f"the service {name} was removed meanwhile; do it again")
            for one in there["deployments"]:
                if one["taskDefinition"] == definition and one.get("rolloutState") == "FAILED":
                    raise ModuleFailed(f"tasks of service {name} do not start: {one.get('rolloutStateReason')}")
            first = next(one for one in there["deployments"] if one["status"] == "PRIMARY")
            if first["taskDefinition"] != definition:
                raise ModuleFailed(f"tasks of service {name} did not start, and ECS went back to those of before")
            if first.get("rolloutState") == "COMPLETED":
                return
            if not said:
                tell(f"starting tasks of service {name}")
                said = True
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the service {name} is not ready after {_ROLLOUT_SECONDS / 60:.0f} min: {_why(there)}"
                )
            time.sleep(_LOOK_SECONDS)


class ServiceEngine:
    """Tasks of a service, which take calls from a queue; as `jobs.Engine`."""

    def __init__(self, account: Account, function: Function, made: dict[str, str], scratch: Scratch) -> None:
        """Send calls to the queue that was made for a function."""
        self._account, self._made, self._scratch = account, made, scratch
        self._name = name_of(function.name)

    def submit(self, name: str, variables: dict[str, str]) -> str:  # noqa: ARG002 - as `Engine`
        """As `jobs.Engine.submit`; the id is the event's address."""
        with told(f"send a call to service {self._name}"):
            self._account.client("sqs").send_message(QueueUrl=self._made["work"], MessageBody=variables[EVENT])
        return variables[EVENT]

    def look(self, identifier: str) -> Seen | None:
        """As `jobs.Engine.look`."""
        key = identifier.removeprefix(f"s3://{self._scratch.bucket}/")
        if self._scratch.read(f"{key.rpartition('/')[0]}/{BEGUN}") is not None:
            return Seen("RUNNING", begun=True)
        if self._scratch.read(key) is None:
            return None
        return Seen("QUEUED", reason=self._why_it_waits())

    def end(self, identifier: str, reason: str) -> None:
        """As `jobs.Engine.end`: a task that finds the event gone passes over it; one that is at it goes on."""

    def log(self, identifier: str) -> str:  # noqa: ARG002 - as `Engine`
        """Nothing: what was printed comes with the reply."""
        return ""

    def _why_it_waits(self) -> str:
        try:
            with told(f"look at the service {self._name}"):
                cluster = self._made["cluster"] or "default"
                found = self._account.client("ecs").describe_services(cluster=cluster, services=[self._name])[
                    "services"
                ]
        except VolvoxError as error:
            return str(error)
        if not found or found[0]["status"] != "ACTIVE":
            return f"the service {self._name} is gone; apply the function's file again"
        return "" if found[0]["runningCount"] else _why(found[0])


def _why(service: dict[str, Any]) -> str:
    """Why a service has not the tasks that it should have, in ECS' own words."""
    said = next((str(one["message"]) for one in service.get("events", [])), "")
    return f"it has {service['runningCount']} of {service['desiredCount']} tasks" + (f" ({said})" if said else "")


def _target(cluster: str, name: str) -> dict[str, Any]:
    resource = f"service/{cluster.rpartition('/')[2]}/{name}"
    return {"ServiceNamespace": "ecs", "ResourceId": resource, "ScalableDimension": _DIMENSION}


def _tracking(function: Function) -> dict[str, Any]:
    """More tasks while more calls wait than one task answers together; fewer when none has waited for a while."""
    return {
        "TargetValue": float(function.scaling.batch),
        "CustomizedMetricSpecification": {
            "Namespace": "AWS/SQS",
            "MetricName": "ApproximateNumberOfMessagesVisible",
            "Dimensions": [{"Name": "QueueName", "Value": name_of(function.name, SUFFIX)}],
            "Statistic": "Average",
        },
        "ScaleOutCooldown": 60,
        "ScaleInCooldown": max(60, round(function.scaling.idle_seconds)),
    }


def _plain(network: Any) -> Any:
    """Subnets and groups as they are compared: in no order, without what ECS adds."""
    given = (network or {}).get("awsvpcConfiguration") or {}
    return sorted(given.get("subnets", [])), sorted(given.get("securityGroups", [])), given.get("assignPublicIp")


def _same(there: Any, wanted: dict[str, Any]) -> bool:
    return isinstance(there, dict) and all(there.get(name) == value for name, value in wanted.items())

"""Services of ECS by contract: no engine here runs them, so what is asked is checked against Amazon's own models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.volvox.runtimes.aws.contract import ContractAccount, Killed, Refusal, Told
from volvox.errors import InvalidInput, ModuleFailed, Unavailable
from volvox.functions.definition import Function
from volvox.runner.once import EVENT
from volvox.runtimes.aws import ecs_services
from volvox.runtimes.aws.ecs_runtime import EcsEngine, EcsRuntime
from volvox.runtimes.aws.ecs_services import EcsServices, ServiceEngine
from volvox.runtimes.aws.scratch import Scratch

NAME = "volvox-f"


class Ecs:
    """ECS and what goes with it; a rollout is over when it is looked at again, well or not."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.definitions: dict[str, dict[str, Any]] = {}
        self.fails = ""
        self.revision = 0

    def DescribeClusters(self, clusters: list[str], **_: Any) -> Any:
        return {"clusters": [{"clusterName": one, "status": "ACTIVE"} for one in clusters]}

    def ListTaskDefinitions(self, familyPrefix: str, status: str, **_: Any) -> Any:
        found = [arn for arn, one in self.definitions.items() if one["status"] == status]
        return {"taskDefinitionArns": [arn for arn in found if f"/{familyPrefix}:" in arn]}

    def DescribeTaskDefinition(self, taskDefinition: str, **_: Any) -> Any:
        return {"taskDefinition": {}, "tags": self.definitions[taskDefinition]["tags"]}

    def RegisterTaskDefinition(self, family: str, tags: list[Any], **more: Any) -> Any:
        self.revision += 1
        arn = f"arn:aws:ecs:eu-west-1:123456789012:task-definition/{family}:{self.revision}"
        self.definitions[arn] = {"tags": tags, "status": "ACTIVE", **more}
        return {"taskDefinition": {"taskDefinitionArn": arn}}

    def DeregisterTaskDefinition(self, taskDefinition: str) -> None:
        used = [one["taskDefinition"] for one in self.services.values() if one["status"] == "ACTIVE"]
        assert taskDefinition not in used, "tasks of the service could not be started any more"
        self.definitions[taskDefinition]["status"] = "INACTIVE"

    def DescribeServices(self, services: list[str], cluster: str, **_: Any) -> Any:
        found = [self.services[one] for one in services if one in self.services]
        told = [{**one, "deployments": [dict(other) for other in one["deployments"]]} for one in found]
        for one in found:
            first = one["deployments"][0]
            first["rolloutState"] = "FAILED" if first["taskDefinition"] == self.fails else "COMPLETED"
            first["rolloutStateReason"] = "tasks failed to start"
        return {"services": told}

    def CreateService(self, serviceName: str, tags: list[Any], taskDefinition: str, **more: Any) -> Any:
        if self.services.get(serviceName, {}).get("status") == "ACTIVE":
            raise Refusal("InvalidParameterException", "Creation of service was not idempotent.")
        kept = {name: more[name] for name in ("desiredCount", "launchType", "networkConfiguration")}
        self.services[serviceName] = {
            "serviceName": serviceName, "status": "ACTIVE", "tags": tags, "taskDefinition": taskDefinition, **kept,
            "runningCount": 0, "events": [{"message": "(service f) was unable to place a task"}],
        }  # fmt: skip
        self._begin(serviceName)

    def UpdateService(self, service: str, cluster: str, **more: Any) -> Any:
        self.services[service].update(more)
        self._begin(service)

    def DeleteService(self, service: str, cluster: str, force: bool) -> None:
        assert force
        self.services[service]["status"] = "INACTIVE"

    def _begin(self, service: str) -> None:
        there = self.services[service]
        begun = {"status": "PRIMARY", "taskDefinition": there["taskDefinition"], "rolloutState": "IN_PROGRESS"}
        there["deployments"] = [begun]


class Scaling:
    def __init__(self) -> None:
        self.targets: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}

    def DescribeScalableTargets(self, ResourceIds: list[str], **_: Any) -> Any:
        return {"ScalableTargets": [self.targets[one] for one in ResourceIds if one in self.targets]}

    def RegisterScalableTarget(self, ResourceId: str, **more: Any) -> None:
        self.targets[ResourceId] = {
            "ResourceId": ResourceId, "RoleARN": "arn:aws:iam::1:role/r", "CreationTime": 0, **more,
        }  # fmt: skip

    def DeregisterScalableTarget(self, ResourceId: str, **_: Any) -> None:
        if ResourceId not in self.targets:
            raise Refusal("ObjectNotFoundException")
        del self.targets[ResourceId]
        self.policies.clear()

    def DescribeScalingPolicies(self, PolicyNames: list[str], **_: Any) -> Any:
        return {"ScalingPolicies": [self.policies[one] for one in PolicyNames if one in self.policies]}

    def PutScalingPolicy(self, PolicyName: str, **more: Any) -> Any:
        told = {"PolicyName": PolicyName, "PolicyARN": "arn:aws:autoscaling:p", "CreationTime": 0, **more}
        self.policies[PolicyName] = told
        return {"PolicyARN": told["PolicyARN"]}


class Sqs:
    def __init__(self) -> None:
        self.queues: dict[str, dict[str, str]] = {}
        self.sent: list[str] = []

    def GetQueueUrl(self, QueueName: str) -> Any:
        if QueueName not in self.queues:
            raise Refusal("AWS.SimpleQueueService.NonExistentQueue")
        return {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/1/{QueueName}"}

    def CreateQueue(self, QueueName: str, Attributes: dict[str, str], tags: dict[str, str]) -> Any:
        assert tags["volvox:function"] == "f"
        self.queues[QueueName] = Attributes
        return self.GetQueueUrl(QueueName)

    def GetQueueAttributes(self, QueueUrl: str, **_: Any) -> Any:
        return {"Attributes": self.queues[QueueUrl.rpartition("/")[2]]}

    def SetQueueAttributes(self, QueueUrl: str, Attributes: dict[str, str]) -> None:
        self.queues[QueueUrl.rpartition("/")[2]].update(Attributes)

    def DeleteQueue(self, QueueUrl: str) -> None:
        del self.queues[QueueUrl.rpartition("/")[2]]

    def SendMessage(self, QueueUrl: str, MessageBody: str) -> Any:
        self.sent.append(MessageBody)
        return {"MessageId": "1"}


class Logs:
    def __init__(self) -> None:
        self.groups: list[str] = []

    def DescribeLogGroups(self, **_: Any) -> Any:
        return {"logGroups": [{"logGroupName": one} for one in self.groups]}

    def CreateLogGroup(self, logGroupName: str) -> None:
        self.groups.append(logGroupName)

    def PutRetentionPolicy(self, **_: Any) -> None: ...

    def DeleteLogGroup(self, logGroupName: str) -> None:
        if logGroupName not in self.groups:
            raise Refusal("ResourceNotFoundException")
        self.groups.remove(logGroupName)


class Cloud:
    """An account, and the runtime's part that makes services there."""

    def __init__(self, tmp_path: Any) -> None:
        self.told, self.ecs, self.scaling, self.sqs, self.logs = Told(), Ecs(), Scaling(), Sqs(), Logs()
        self.account = ContractAccount(
            self.told, ecs=self.ecs, application_autoscaling=self.scaling, sqs=self.sqs, logs=self.logs
        )
        self.runtime = EcsRuntime(tmp_path, None)  # type: ignore[arg-type]
        self.runtime.owner = "me"

    def ensure(self, function: Function, image: str = "image@sha256:1") -> dict[str, str]:
        """As a deployment does whose new version is proven."""
        made = self.runtime.ensure(self.account, function, image, "arn:aws:iam::123456789012:role/r")
        self.runtime.keep(self.account, function, made)
        return made

    def active(self) -> list[str]:
        return [arn for arn, one in self.ecs.definitions.items() if one["status"] == "ACTIVE"]

    def left(self) -> list[Any]:
        services = [one for one in self.ecs.services.values() if one["status"] == "ACTIVE"]
        return [*services, *self.active(), *self.sqs.queues, *self.scaling.targets, *self.logs.groups]


@pytest.fixture
def cloud(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr(ecs_services, "_LOOK_SECONDS", 0.0)
    return Cloud(tmp_path)


def function(**more: Any) -> Function:
    ecs = {"subnets": ["subnet-1"], "security_group_ids": ["sg-1"], **more.pop("ecs", {})}
    told = {"name": "f", "model": "m/1", "runtime": "ecs", "settings": {"bucket": "b", "ecs": ecs}}
    return Function.model_validate({**told, "scaling": {"min_scale": 1, "max_scale": 3}, **more})


def test_a_service_is_made_once_and_found_again(cloud: Cloud) -> None:
    made = cloud.ensure(function())
    assert cloud.told.names == [
        "sqs.CreateQueue", "logs.CreateLogGroup", "logs.PutRetentionPolicy", "ecs.RegisterTaskDefinition",
        "ecs.CreateService", "application-autoscaling.RegisterScalableTarget",
        "application-autoscaling.PutScalingPolicy",
    ]  # fmt: skip
    there = cloud.ecs.services[NAME]
    assert (there["desiredCount"], there["launchType"]) == (1, "FARGATE")
    container = cloud.ecs.definitions[made["definition"]]["containerDefinitions"][0]
    assert {"name": "VOLVOX_QUEUE", "value": made["work"]} in container["environment"]
    bounds = cloud.scaling.targets[f"service/default/{NAME}"]
    assert (bounds["MinCapacity"], bounds["MaxCapacity"]) == (1, 3)
    cloud.told.writes.clear()
    assert cloud.ensure(function()) == made and cloud.told.writes == []


def test_a_change_goes_to_the_same_service_and_the_definition_of_before_goes(cloud: Cloud) -> None:
    first = cloud.ensure(function())
    cloud.told.writes.clear()
    second = cloud.ensure(function(), "image@sha256:2")
    assert cloud.told.names == ["ecs.RegisterTaskDefinition", "ecs.UpdateService", "ecs.DeregisterTaskDefinition"]
    assert second["definition"] != first["definition"] and cloud.active() == [second["definition"]]
    cloud.told.writes.clear()
    cloud.ensure(function(ecs={"subnets": ["subnet-2"]}), "image@sha256:2")
    assert cloud.told.names == ["ecs.UpdateService"]
    cloud.told.writes.clear()
    cloud.ensure(function(ecs={"subnets": ["subnet-2"]}, scaling={"min_scale": 2, "max_scale": 5}), "image@sha256:2")
    assert cloud.told.names == ["ecs.UpdateService", "application-autoscaling.RegisterScalableTarget"]


def test_what_others_changed_is_mended(cloud: Cloud) -> None:
    made = cloud.ensure(function())
    cloud.ecs.services[NAME].update(desiredCount=0, taskDefinition="arn:aws:ecs:eu-west-1:1:task-definition/other:1")
    cloud.scaling.policies.clear()
    cloud.told.writes.clear()
    cloud.ensure(function())
    assert cloud.told.names == ["ecs.UpdateService", "application-autoscaling.PutScalingPolicy"]
    there = cloud.ecs.services[NAME]
    assert (there["desiredCount"], there["taskDefinition"]) == (1, made["definition"])
    cloud.ecs.services[NAME]["status"] = "INACTIVE"  # removed by others
    cloud.told.writes.clear()
    cloud.ensure(function())
    assert "ecs.CreateService" in cloud.told.names
    cloud.ecs.services[NAME]["status"] = "DRAINING"
    with pytest.raises(Unavailable, match="still being removed"):
        cloud.ensure(function())


def test_tasks_that_do_not_start_fail_the_deployment_and_those_of_before_go_on(cloud: Cloud) -> None:
    first = cloud.ensure(function())
    cloud.ecs.fails = f"arn:aws:ecs:eu-west-1:123456789012:task-definition/{NAME}:2"
    with pytest.raises(ModuleFailed, match="tasks failed to start"):
        cloud.ensure(function(), "image@sha256:2")
    assert first["definition"] in cloud.active()


def test_another_s_service_and_another_kind_of_machines_are_refused(cloud: Cloud) -> None:
    cloud.ensure(function())
    with pytest.raises(InvalidInput, match="remove the function first"):
        cloud.ensure(function(ecs={"launch_type": "EC2"}))
    cloud.runtime.owner = "another"
    with pytest.raises(InvalidInput, match="not this dispatcher's"):
        cloud.ensure(function())


def test_more_tasks_are_kept_when_they_are_asked_for(cloud: Cloud) -> None:
    cloud.ensure(function())
    services = EcsServices(cloud.account, "me")
    services.scale(function(), 2)
    assert cloud.scaling.targets[f"service/default/{NAME}"]["MinCapacity"] == 2
    services.scale(function(), 0)
    assert cloud.scaling.targets[f"service/default/{NAME}"]["MinCapacity"] == 1


def test_without_a_least_number_the_service_goes_and_removing_leaves_nothing(cloud: Cloud) -> None:
    cloud.ensure(function())
    made = cloud.ensure(function(scaling={"min_scale": 0, "max_scale": 3}))
    assert made["work"] == "" and cloud.left() == [made["definition"], "/aws/ecs/volvox-f"]
    cloud.runtime.unmake(cloud.account, function())
    assert cloud.left() == []
    cloud.ensure(function())
    cloud.runtime.unmake(cloud.account, function())
    assert cloud.left() == []
    cloud.told.writes.clear()
    cloud.runtime.unmake(cloud.account, function())
    assert cloud.told.names == ["logs.DeleteLogGroup"]


def test_killed_at_any_write_and_run_again_it_is_complete_and_nothing_is_orphaned(tmp_path: Any, monkeypatch) -> None:
    monkeypatch.setattr(ecs_services, "_LOOK_SECONDS", 0.0)
    for image in ("image@sha256:1", "image@sha256:2"):
        number = 0
        while True:
            number += 1
            cloud = Cloud(tmp_path)
            if image.endswith("2"):
                cloud.ensure(function())
                cloud.told.writes.clear()
            cloud.told.dies_at = number
            try:
                cloud.ensure(function(), image)
            except Killed:
                cloud.told.dies_at = 0
                made = cloud.ensure(function(), image)
                assert cloud.active() == [made["definition"]], number
                assert cloud.ecs.services[NAME]["taskDefinition"] == made["definition"]
                cloud.told.writes.clear()
                assert cloud.ensure(function(), image) == made and cloud.told.writes == []
                continue
            break
        assert number > 3


def test_a_call_goes_through_the_queue_and_while_it_waits_ecs_says_why(cloud: Cloud) -> None:
    made = cloud.ensure(function())

    class InMemory(Scratch):
        objects: dict[str, Any] = {}

        def read(self, key: str) -> Any:
            return self.objects.get(key)

    scratch = InMemory(cloud.account, "b", ".volvox/f")
    engine = ServiceEngine(cloud.account, function(), made, scratch)
    address = "s3://b/.volvox/f/job/1/event.json"
    assert engine.submit("name", {EVENT: address}) == address and cloud.sqs.sent == [address]
    assert engine.look(address) is None
    scratch.objects[".volvox/f/job/1/event.json"] = {"volvox": {}}
    seen = engine.look(address)
    assert seen is not None and not seen.begun and "0 of 1 tasks ((service f) was unable" in seen.reason
    cloud.ecs.services[NAME]["runningCount"] = 1
    assert engine.look(address) == replace(seen, reason="")
    scratch.objects[".volvox/f/job/1/begun.json"] = {"count": 1}
    assert (engine.look(address) or seen).begun
    del scratch.objects[".volvox/f/job/1/begun.json"]
    cloud.ecs.services[NAME]["status"] = "INACTIVE"
    assert "is gone; apply" in (engine.look(address) or seen).reason


def test_a_new_version_is_proven_by_a_task_beside_the_service_which_goes_on(cloud: Cloud) -> None:
    first = cloud.ensure(function())
    cloud.told.writes.clear()
    second = cloud.runtime.ensure(cloud.account, function(), "image@sha256:2", "arn:aws:iam::123456789012:role/r")
    assert cloud.told.names == ["ecs.RegisterTaskDefinition"]
    assert cloud.ecs.services[NAME]["taskDefinition"] == first["definition"] != second["definition"]
    prover = cloud.runtime.prover(cloud.account, function(), second)
    assert isinstance(prover, EcsEngine)
    assert isinstance(cloud.runtime.engine(cloud.account, function(), second), ServiceEngine)
    cloud.runtime.keep(cloud.account, function(), first)  # it did not prove itself
    assert cloud.active() == [first["definition"]]

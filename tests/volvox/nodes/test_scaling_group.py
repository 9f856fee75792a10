"""An EC2 Auto Scaling group: what is asked of AWS, as its own client checks requests and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import boto3
import pytest
from botocore.stub import Stubber

from tests.volvox.nodes.conftest import Time
from volvox.errors import NotFound, Unavailable
from volvox.nodes.group import NodeGroup, NodeLimits, ScalingGroup
from volvox.nodes.keeping import Keeper, Need
from volvox.nodes.scaling_group import Ec2Group
from volvox.settings import Home

T = TypeVar("T")
ASG = "workers-asg"


class Aws:
    """What AWS is asked, and what it answers."""

    def __init__(self) -> None:
        self.client = boto3.client(
            "autoscaling", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="y"
        )
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.group = Ec2Group(ScalingGroup(ASG), lambda: self.client)

    def describes(self, desired: int, most: int = 5, **instances: str) -> None:
        """`i_1="InService"`: the id and its state."""
        told = [
            {"InstanceId": name.replace("_", "-"), "LifecycleState": state, "HealthStatus": "Healthy",
             "AvailabilityZone": "eu-central-1a", "ProtectedFromScaleIn": False}
            for name, state in instances.items()
        ]  # fmt: skip
        answer = {
            "AutoScalingGroupName": ASG, "MinSize": 0, "MaxSize": most, "DesiredCapacity": desired, "Instances": told,
            "DefaultCooldown": 300, "AvailabilityZones": ["eu-central-1a"], "HealthCheckType": "EC2",
            "CreatedTime": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        self.stub.add_response(
            "describe_auto_scaling_groups", {"AutoScalingGroups": [answer]}, {"AutoScalingGroupNames": [ASG]}
        )

    def is_to_have(self, desired: int) -> None:
        asked = {"AutoScalingGroupName": ASG, "DesiredCapacity": desired, "HonorCooldown": False}
        self.stub.add_response("set_desired_capacity", {}, asked)

    def is_to_end(self, instance: str) -> None:
        asked = {"InstanceId": instance, "ShouldDecrementDesiredCapacity": True}
        self.stub.add_response("terminate_instance_in_auto_scaling_group", {}, asked)


@pytest.fixture
def aws() -> Iterator[Aws]:
    made = Aws()
    yield made
    made.stub.assert_no_pending_responses()


def told(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_states_of_instances(aws: Aws) -> None:
    aws.describes(4, i_1="InService", i_2="Pending:Wait", i_3="Terminating:Wait", i_4="Standby")
    found = told(aws.group.nodes())
    assert [(one.id, one.state, one.at_work) for one in found] == [
        ("i-1", "on", None), ("i-2", "booting", None), ("i-3", "off", None), ("i-4", "off", None)
    ]  # fmt: skip


def test_the_number_is_raised_and_never_lowered(aws: Aws) -> None:
    aws.describes(1, i_1="InService")
    aws.is_to_have(2)
    told(aws.group.start("workers-2", 2))
    aws.describes(2, i_1="InService")
    told(aws.group.start("workers-2", 2))  # asked for before
    aws.describes(4, i_1="InService")
    told(aws.group.start("workers-2", 2))  # somebody else has raised it
    aws.describes(2, most=2)
    with pytest.raises(Unavailable, match=r"2 instances at most \(MaxSize\), and 3 are needed"):
        told(aws.group.start("workers-3", 3))


def test_an_instance_is_ended_by_its_id_and_the_number_goes_down_with_it(aws: Aws) -> None:
    aws.describes(2, i_1="InService", i_2="InService")
    aws.is_to_end("i-2")
    told(aws.group.stop("i-2"))
    aws.describes(1, i_1="InService", i_2="Terminating")
    told(aws.group.stop("i-2"))  # told once more, it lowers nothing again
    aws.describes(1, i_1="InService")
    told(aws.group.stop("i-2"))


def test_what_aws_refuses_is_told(aws: Aws) -> None:
    aws.stub.add_client_error("describe_auto_scaling_groups", "AccessDenied", "not you", 403)
    with pytest.raises(Unavailable, match=r"'workers-asg' cannot be asked: .*not you"):
        told(aws.group.nodes())
    aws.stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": []})
    with pytest.raises(NotFound, match="there is no Auto Scaling group 'workers-asg'"):
        told(aws.group.nodes())
    aws.describes(0)
    aws.stub.add_client_error("set_desired_capacity", "ScalingActivityInProgress", "wait")
    with pytest.raises(Unavailable, match="wait"):
        told(aws.group.start("workers-1", 1))


def test_the_nodes_of_a_group_from_the_first_to_the_last(aws: Aws, home: Home, clock: Time) -> None:
    """What is at work is told by a cluster; here nothing ever is."""
    nodes = aws.group.nodes

    async def idle() -> Any:
        return [replace(one, at_work=0) for one in await nodes()]

    aws.group.nodes = idle  # pyright: ignore[reportAttributeAccessIssue]
    group = NodeGroup("workers", "kubernetes", ScalingGroup(ASG), limits=NodeLimits(0, 2, 1, 100), boot_seconds=30)
    keeper = Keeper(home, group, aws.group, now=clock)

    def look(turns: int) -> list[tuple[str, str]]:
        told(keeper.once(Need(turns, 0, 60.0, most_instances=9)))
        return [(one.id, one.state) for one in keeper.ledger.nodes]

    aws.describes(0)
    aws.describes(0)
    aws.is_to_have(1)
    assert look(1) == [("", "booting")]
    aws.describes(1)
    assert look(1) == [("", "booting")], "AWS has none yet"
    aws.describes(1, i_7="Pending")
    assert look(1) == [("i-7", "booting")]
    aws.describes(1)
    assert look(1) == [("", "booting")], "it did not come up; AWS makes another one"
    clock.now += 25
    aws.describes(1, i_8="InService")
    assert look(1) == [("i-8", "on")]
    assert keeper.boot_seconds == 25
    aws.describes(1, i_8="InService")
    aws.describes(1, i_8="InService")
    aws.is_to_have(2)
    assert look(4) == [("i-8", "on"), ("", "booting")]
    aws.describes(2, i_8="InService", i_9="InService")
    look(0)
    clock.now += 100
    aws.describes(2, i_8="InService", i_9="InService")
    aws.describes(2, i_8="InService", i_9="InService")
    aws.is_to_end("i-9")
    aws.describes(1, i_8="InService", i_9="Terminating")
    aws.is_to_end("i-8")
    assert look(0) == [("i-8", "stopping"), ("i-9", "stopping")]
    aws.describes(0, i_8="Terminating")
    assert look(0) == []


def test_an_instance_that_comes_late_is_the_one_that_is_waited_for(aws: Aws, home: Home, clock: Time) -> None:
    group = NodeGroup(
        "workers", "kubernetes", ScalingGroup(ASG), limits=NodeLimits(0, 2, 1, 100), gives_up_seconds=300
    )  # fmt: skip
    keeper = Keeper(home, group, aws.group, now=clock)

    def look() -> dict[str, str]:
        told(keeper.once(Need(1, 0, 60.0, most_instances=9)))
        return {node.id or node.name: node.state for node in keeper.ledger.nodes}

    aws.describes(0)
    aws.describes(0)
    aws.is_to_have(1)
    assert look() == {"workers-1": "booting"}
    clock.now += 301
    aws.describes(1)
    assert look() == {"workers-1": "failed"}
    clock.now += 61
    aws.describes(1)
    aws.describes(1)  # the number is what it is to be already, so nothing is asked for
    assert look() == {"workers-1": "failed", "workers-2": "booting"}
    aws.describes(1, i_5="InService")
    assert look() == {"workers-1": "failed", "i-5": "on"}

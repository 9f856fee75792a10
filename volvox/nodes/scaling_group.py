"""Nodes of an EC2 Auto Scaling group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from volvox.errors import NotFound, Unavailable
from volvox.nodes.cloud import Seen, SeenState
from volvox.nodes.group import ScalingGroup

T = TypeVar("T")


class Ec2Group:
    """One group, by the AWS API; instances are called by their ids."""

    named = False
    answers_seconds = 30.0

    def __init__(self, told: ScalingGroup, client: Callable[[], Any] | None = None) -> None:
        """Nothing is asked yet.

        Args:
            told: Which group.
            client: Makes a boto3 client of Auto Scaling; none: by the group's profile and region.
        """
        self._told, self._make, self._kept = told, client or self._client, None

    async def nodes(self) -> list[Seen]:
        """As `Cloud.nodes`; what is at work on them is not known here."""
        return [Seen(one["InstanceId"], *_state(one)) for one in (await self._group())["Instances"]]

    async def start(self, name: str, total: int) -> None:  # noqa: ARG002 - AWS names its instances
        """As `Cloud.start`.

        The number is only ever raised here: to lower it would end an instance of AWS's choice, which may be at work.
        """
        group = await self._group()
        if group["DesiredCapacity"] >= total:
            return  # asked for before, and on its way
        if group["MaxSize"] < total:
            raise Unavailable(
                f"Auto Scaling group {self._told.name!r} has {group['MaxSize']} instances at most (MaxSize), and "
                f"{total} are needed; raise it, or lower `most`"
            )
        await self._asked(
            lambda client: client.set_desired_capacity(
                AutoScalingGroupName=self._told.name, DesiredCapacity=total, HonorCooldown=False
            )
        )

    async def leave(self, node: str) -> str:  # noqa: ARG002
        """As `Cloud.leave`; who knows what is at work on it asks first, see `InCluster`."""
        return ""

    async def stay(self, node: str) -> None:
        """As `Cloud.stay`."""

    async def stop(self, node: str) -> None:
        """As `Cloud.stop`: the number goes down with it, so that AWS starts no other in its place."""
        there = {one["InstanceId"]: _state(one)[0] for one in (await self._group())["Instances"]}
        if there.get(node, "off") == "off":
            return
        await self._asked(
            lambda client: client.terminate_instance_in_auto_scaling_group(
                InstanceId=node, ShouldDecrementDesiredCapacity=True
            )
        )

    async def close(self) -> None:
        """As `Cloud.close`."""

    async def _group(self) -> dict[str, Any]:
        found = await self._asked(
            lambda client: client.describe_auto_scaling_groups(AutoScalingGroupNames=[self._told.name])
        )
        if not found["AutoScalingGroups"]:
            raise NotFound(
                f"there is no Auto Scaling group {self._told.name!r} in this region and account; see the group's file"
            )
        return found["AutoScalingGroups"][0]

    async def _asked(self, ask: Callable[[Any], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        def do() -> T:
            if self._kept is None:
                self._kept = self._make()
            return ask(self._kept)

        try:
            return await asyncio.to_thread(do)
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"Auto Scaling group {self._told.name!r} cannot be asked: {error}") from error

    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})
        session = boto3.Session(profile_name=self._told.profile or None, region_name=self._told.region or None)
        return session.client("autoscaling", config=config)


def _state(instance: dict[str, Any]) -> tuple[SeenState, None, str]:
    """What AWS's LifecycleState means."""
    told = str(instance.get("LifecycleState", ""))
    if told == "InService":
        return "on", None, "" if instance.get("HealthStatus") == "Healthy" else f"{instance.get('HealthStatus')}"
    if told.startswith("Pending"):
        return "booting", None, told
    return "off", None, told  # Terminating, Terminated, Detaching, Standby and what else gives no node

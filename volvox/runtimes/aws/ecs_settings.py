"""What a definition says below `ecs`.

`cluster` (the account's default one), `launch_type` (FARGATE, EC2), `subnets`, `security_group_ids`,
`environment.Variables`.
"""

from __future__ import annotations

from typing import Any

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes.aws.account import Account, section
from volvox.runtimes.aws.network import subnets_and_groups


def cluster_of(function: Function) -> str:
    """Name of the cluster; empty: the account's default one."""
    return str(section(function, "ecs").get("cluster") or "")


def launch_type(function: Function) -> str:
    """FARGATE, or EC2 where the definition says so.

    Raises:
        InvalidInput: If it says something else.
    """
    kind = str(section(function, "ecs").get("launch_type") or "FARGATE").upper()
    if kind not in ("FARGATE", "EC2"):
        raise InvalidInput(f"ecs.launch_type is {kind}; give FARGATE or EC2")
    return kind


def network_of(account: Account, function: Function) -> dict[str, Any]:
    """Subnets and security groups of tasks, as ECS takes them."""
    given = section(function, "ecs")
    subnets, groups = subnets_and_groups(
        account, list(given.get("subnets") or []), list(given.get("security_group_ids") or [])
    )
    network: dict[str, Any] = {"subnets": subnets, "securityGroups": groups}
    if launch_type(function) == "FARGATE":
        network["assignPublicIp"] = "ENABLED"  # else it reaches neither ECR nor S3
    return {"awsvpcConfiguration": network}

"""Subnets and security groups for what runs on machines: those of the definition, else of the default network."""

from __future__ import annotations

from volvox.errors import InvalidInput
from volvox.runtimes.aws.account import Account, told


def subnets_and_groups(account: Account, subnets: list[str], groups: list[str]) -> tuple[list[str], list[str]]:
    """Subnets and security groups; what is not given is taken from the default network of the region.

    Raises:
        InvalidInput: If there is no such network, or it has none.
    """
    if subnets and groups:
        return subnets, groups
    ec2 = account.client("ec2")
    with told("look at the default network"):
        if not subnets:
            found = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
            subnets = sorted(one["SubnetId"] for one in found)
        if not groups and subnets:
            network = ec2.describe_subnets(SubnetIds=subnets[:1])["Subnets"][0]["VpcId"]
            filters = [{"Name": "vpc-id", "Values": [network]}, {"Name": "group-name", "Values": ["default"]}]
            groups = [one["GroupId"] for one in ec2.describe_security_groups(Filters=filters)["SecurityGroups"]]
    if not subnets or not groups:
        raise InvalidInput(
            f"there is no default network in region {account.region}: name subnets and security_group_ids in the "
            "settings (batch.compute_resources, or ecs)"
        )
    return subnets, groups

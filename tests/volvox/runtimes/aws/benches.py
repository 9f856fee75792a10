"""The runtimes of AWS as the suite sees them, and what is left of them in the account."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from tests.volvox.runtimes.benches import NAME, SHARED, Bench
from volvox.functions.definition import Function
from volvox.runtimes import Runtime


class Renamed:
    """A runtime whose function has another name there: an account has no two of one name."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self.name, self.fetches = runtime, runtime.name, runtime.fetches

    async def deploy(self, function: Function, **more: Any) -> None:
        await self._runtime.deploy(function.model_copy(update={"name": SHARED}), **more)

    async def close(self) -> None:
        await self._runtime.close()

    def __getattr__(self, what: str) -> Callable[..., Any]:
        return lambda name, *given, **more: getattr(self._runtime, what)(SHARED, *given, **more)


class Lambda(Bench):
    """Lambda functions of the AWS engine of VOLVOX_ENGINES."""

    name = "lambda"
    shared = False
    patience = 30.0
    image = "python:3.11-slim"
    live_log = False
    ends_when_told = False

    def made(self) -> Runtime:
        from volvox.runtimes.aws.lambda_runtime import LambdaRuntime

        self.image = os.environ.get("ENGINE_BASE_IMAGE") or self.image
        made = LambdaRuntime(self.folder / "runtime", self.models)
        return Renamed(made) if self.shared else made  # type: ignore[return-value]

    async def at_work(self) -> list[str]:
        return []  # in an instance, which is Lambda's own business

    async def left(self) -> list[str]:
        return await asyncio.to_thread(on_aws, SHARED if self.shared else NAME)


class SharedLambda(Lambda):
    """One that lives beside others of the suite."""

    shared = True


def on_aws(function: str) -> list[str]:
    """What there is of a function in the account of the environment."""
    import boto3

    name, found = f"volvox-{function}", []
    functions = boto3.client("lambda").list_functions()["Functions"]
    found += [f"function {one['FunctionName']}" for one in functions if one["FunctionName"] == name]
    found += [f"role {one['RoleName']}" for one in boto3.client("iam").list_roles()["Roles"] if one["RoleName"] == name]
    queues = boto3.client("sqs").list_queues(QueueNamePrefix=name).get("QueueUrls", [])
    found += [f"queue {url}" for url in queues]
    groups = boto3.client("logs").describe_log_groups()["logGroups"]
    found += [f"log {one['logGroupName']}" for one in groups if one["logGroupName"].endswith(f"/{name}")]
    batch = boto3.client("batch")
    environments = batch.describe_compute_environments()["computeEnvironments"]
    found += [f"environment {name}" for one in environments if one["computeEnvironmentName"] == name]
    found += [f"job queue {name}" for one in batch.describe_job_queues()["jobQueues"] if one["jobQueueName"] == name]
    definitions = batch.describe_job_definitions(jobDefinitionName=name, status="ACTIVE")["jobDefinitions"]
    found += [f"job definition {one['jobDefinitionArn']}" for one in definitions]
    ecs = boto3.client("ecs")
    tasks = ecs.list_task_definitions(familyPrefix=name, status="ACTIVE")["taskDefinitionArns"]
    found += [f"task definition {arn}" for arn in tasks]
    if ecs.describe_clusters(clusters=["default"])["clusters"]:
        services = ecs.describe_services(cluster="default", services=[name])["services"]
        found += [f"service {name}" for one in services if one["status"] == "ACTIVE"]
    bounds = boto3.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")
    ours = [one["ResourceId"] for one in bounds["ScalableTargets"] if one["ResourceId"].endswith(f"/{name}")]
    apis = boto3.client("apigateway").get_rest_apis(limit=500)["items"]
    return [*found, *(f"bounds {one}" for one in ours), *(f"API {one['id']}" for one in apis if one["name"] == name)]

"""The runtimes of AWS as the suite sees them, and what is left of them in the account."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.volvox.runtimes.benches import NAME, SHARED, Bench
from volvox.functions.definition import Function
from volvox.runtimes import Runtime
from volvox.runtimes.aws.batch_runtime import BatchRuntime
from volvox.runtimes.aws.ecs_runtime import EcsRuntime
from volvox.runtimes.aws.lambda_batch_runtime import LambdaBatchRuntime
from volvox.runtimes.aws.lambda_runtime import LambdaRuntime

_KEYS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


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


class OnAws(Bench):
    """A runtime of the AWS engine of VOLVOX_ENGINES; a class below says which.

    Attributes:
        shared: Whether it lives beside another one of the suite.
    """

    patience = 30.0
    image = "python:3.11-slim"
    live_log = False
    runtime_class: Callable[..., Runtime]

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self.shared = shared
        super().__init__(folder)

    def made(self) -> Runtime:
        self.image = os.environ.get("ENGINE_BASE_IMAGE") or self.image
        made = type(self).runtime_class(self.folder / "runtime", self.models)
        return Renamed(made) if self.shared else made  # type: ignore[return-value]

    async def left(self) -> list[str]:
        return await asyncio.to_thread(on_aws, SHARED if self.shared else NAME)


class Lambda(OnAws):
    """Lambda functions."""

    name = "lambda"
    ends_when_told = False
    runtime_class = LambdaRuntime

    async def at_work(self) -> list[str]:
        return []  # in an instance, which is Lambda's own business


class WithJobs(OnAws):
    """Functions whose calls are containers of their own, with a bucket for what these are told."""

    patience = 90.0
    soon = 60.0
    pace = 2.0
    keeps = False
    ends_when_told = False
    timeout_seconds = 0.0

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        import boto3

        self.bucket = self.role = f"volvox-suite-{uuid.uuid4().hex[:12]}"
        self._over: list[str] | None = None
        boto3.client("s3").create_bucket(Bucket=self.bucket)
        made = boto3.client("iam").create_role(RoleName=self.role, AssumeRolePolicyDocument="{}")
        # Beside what AWS wants: a service role by name, and the engine's address in the container.
        batch: dict[str, Any] = {
            "service_role": made["Role"]["Arn"],
            "environment": {"Variables": {name: os.environ[name] for name in _KEYS}},
        }
        if self.timeout_seconds:
            batch["timeout_seconds"] = self.timeout_seconds
        self.as_script = {"settings": {"bucket": self.bucket, "batch": batch}}
        super().__init__(folder, shared=shared)

    def function(self, version: str = "1", **more: Any) -> Function:
        return super().function(version, **{**self.as_script, "scaling": {"max_scale": 4}, **more})

    async def at_work(self) -> list[str]:
        """Containers of its images that run, after a moment in which they may end."""
        deadline = time.monotonic() + self.soon
        while (found := await asyncio.to_thread(containers)) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        return found

    async def left(self) -> list[str]:
        return await super().left() + (await asyncio.to_thread(self._objects) if self._over is None else self._over)

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._emptied)

    def _objects(self) -> list[str]:
        import boto3

        found = boto3.client("s3").list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [f"object {one['Key']}" for one in found]

    def _emptied(self) -> None:
        import boto3

        self._over, s3 = self._objects(), boto3.client("s3")
        for one in self._over:
            s3.delete_object(Bucket=self.bucket, Key=one.partition(" ")[2])
        s3.delete_bucket(Bucket=self.bucket)
        boto3.client("iam").delete_role(RoleName=self.role)


class Batch(WithJobs):
    """Jobs of Batch."""

    name = "batch"
    together = False
    runtime_class = BatchRuntime


class Ecs(WithJobs):
    """Tasks of ECS."""

    name = "ecs"
    runtime_class = EcsRuntime


class LambdaBatch(WithJobs):
    """Lambda functions; what these cannot finish goes to Batch, where a call has a few seconds more."""

    name = "lambda-batch"
    keeps = True
    pace = 0.1
    timeout_seconds = 3.0
    runtime_class = LambdaBatchRuntime

    def limit(self, seconds: float) -> str:
        return super().limit(self.timeout_seconds)

    async def at_work(self) -> list[str]:
        return []  # as of Lambda


def containers() -> list[str]:
    """Containers that run of images of the suite's functions; Lambda's and a cluster's are their business."""
    line = ["docker", "ps", "--format", "{{.Names}} {{.Image}}"]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    return [one for one in told if f"volvox-{NAME}" in one and not one.startswith(("lambda-", "k8s_"))]


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

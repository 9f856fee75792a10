"""What the pools are measured against: an engine alone, and Prefect's own worker."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any

from volvox.settings import Home

_SAYS_WHEN = ["python", "-c", "import time; print(time.time())"]
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class BarePrefect:
    """Prefect's own worker, in a process of its own, of a pool that is like one of ours.

    Attributes:
        deployment: What a run is made of that this worker starts.
        process: The worker; none where it is not measured.
    """

    deployment: str
    process: subprocess.Popen[bytes] | None

    @classmethod
    async def start(cls, client: Any, kind: str, home: Home) -> BarePrefect:
        """Make the pool and the deployment, and start the worker.

        Containers are made of the same template as ours, since their image has no command `prefect`; a process is
        made of Prefect's own.
        """
        from prefect.client.schemas.actions import WorkPoolCreate

        from deployments.job_templates import worker_template

        if kind == "ecs":  # its worker needs a queue of the account
            return cls("", None)
        like, name = await client.read_work_pool(kind), f"bare-{kind}"
        template = like.base_job_template if kind != "local" else worker_template("process")
        await client.create_work_pool(WorkPoolCreate(name=name, type=like.type, base_job_template=template))
        flow = await client.create_flow_from_name("data")
        await client.create_deployment(flow, name=name, entrypoint="flows.data.data", work_pool_name=name)
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", name, "--type", like.type]
        with (home.folder("bare") / f"{kind}.log").open("wb") as log:
            process = subprocess.Popen([*command, "--name", name], stdout=log, stderr=log, cwd=home.folder("bare"))
        return cls(f"data/{name}", process)

    def stop(self) -> None:
        """End the worker."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def bare_engine(kind: str, image: str, cluster: str) -> float:
    """Seconds until a Python in a container of `image` runs, without Prefect.

    Of Kubernetes it is the pod's own clock that tells; of ECS the task's whole life.
    """
    if kind == "kubernetes":
        return asyncio.run(_pod(image))
    if kind == "ecs":
        return _task(image, cluster)
    commands = {
        "local": [sys.executable, "-c", "pass"],
        "docker": ["docker", "run", "--rm", "--network", "host", image, "python", "-c", "pass"],
    }
    began = time.monotonic()
    subprocess.run(commands[kind], check=True, capture_output=True)
    return time.monotonic() - began


async def _pod(image: str) -> float:
    from kubernetes_asyncio import client, config

    await config.load_kube_config()
    name = f"volvox-bench-{uuid.uuid4().hex[:8]}"
    container = {"name": "bare", "image": image, "imagePullPolicy": "IfNotPresent", "command": _SAYS_WHEN}
    spec = {"restartPolicy": "Never", "hostNetwork": True, "containers": [container]}
    async with client.ApiClient() as api:
        pods, began = client.CoreV1Api(api), time.time()
        await pods.create_namespaced_pod("default", {"metadata": {"name": name}, "spec": spec})
        try:
            while (await pods.read_namespaced_pod(name, "default")).status.phase != "Succeeded":
                await asyncio.sleep(_LOOK_SECONDS)
            return float(await pods.read_namespaced_pod_log(name, "default")) - began
        finally:
            await pods.delete_namespaced_pod(name, "default", grace_period_seconds=0)


def _task(image: str, cluster: str) -> float:
    import boto3

    ecs = boto3.client("ecs")
    ecs.register_task_definition(
        family="volvox-bench-bare", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
        containerDefinitions=[{"name": "bare", "image": image, "command": _SAYS_WHEN, "essential": True}],
    )  # fmt: skip
    subnets = [one["SubnetId"] for one in boto3.client("ec2").describe_subnets()["Subnets"]]
    began = time.monotonic()
    (task,) = ecs.run_task(
        cluster=cluster, taskDefinition="volvox-bench-bare", launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": subnets[:1], "securityGroups": []}},
    )["tasks"]  # fmt: skip
    while True:
        (told,) = ecs.describe_tasks(cluster=cluster, tasks=[task["taskArn"]])["tasks"]
        if told["lastStatus"] == "STOPPED":
            return time.monotonic() - began
        time.sleep(_LOOK_SECONDS)


def engine_there(kind: str) -> bool:
    """Whether the environment names the engine."""
    needed = {"docker": "PATH", "kubernetes": "KUBECONFIG", "ecs": "AWS_ENDPOINT_URL"}[kind]
    if not os.environ.get(needed):
        print(f"{kind}: left out, {needed} is not set")
    return bool(os.environ.get(needed))

"""What an engine alone takes to start a container and see its end: an image whose program does nothing.

Each of these is timed from the request until the engine's own word that it has ended, asked every 20 ms. Nothing of
Volvox runs, in the container or here.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable
from typing import Any

from volvox.infrastructure.cluster import Cluster

_LOOK_SECONDS = 0.02
_PATIENCE = 120.0
_JOBS, _PODS = "/apis/batch/v1/namespaces/default/jobs", "/api/v1/namespaces/default/pods"
_NOTHING = 'FROM {base}\nENTRYPOINT []\nCMD ["true"]\n'
# An empty Lambda image: Python, and the loop that Lambda's Runtime API asks of every image. Its bytecode is there.
_EMPTY = (
    "FROM {base}\nUSER 0\nCOPY loop.py /loop.py\nRUN [\"python3\", \"-c\", \"import http.client\"]\n"
    "ENTRYPOINT [\"python3\", \"/loop.py\"]\n"
)  # fmt: skip
_LOOP = """
import http.client, os

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
path = "/2018-06-01/runtime/invocation"
while True:
    connection.request("GET", path + "/next")
    answer = connection.getresponse()
    answer.read()
    connection.request("POST", path + "/" + answer.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", b"{}")
    connection.getresponse().read()
"""


def image(dockerfile: str, **files: str) -> str:
    """Name of an image that the engine here builds; one without a name may be cleared away by others."""
    context, name = io.BytesIO(), f"volvox-bench/bare:{uuid.uuid4().hex[:12]}"
    with tarfile.open(fileobj=context, mode="w") as archive:
        for path, text in {"Dockerfile": dockerfile, **files}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    ran("docker", "build", "--quiet", "--tag", name, "-", given=context.getvalue())
    return name


def ran(*words: str, given: bytes | None = None, environment: dict[str, str] | None = None) -> str:
    """What a command printed; where it fails the measurement ends."""
    done = subprocess.run(words, input=given, env=environment, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout.decode()}\n{done.stderr.decode()}")
    return done.stdout.decode()


def nothing(base: str) -> str:
    """An image of the same layers whose program is `true`."""
    return image(_NOTHING.format(base=base))


def empty_lambda(base: str) -> str:
    """An empty Lambda image."""
    return image(_EMPTY.format(base=base), **{"loop.py": _LOOP})


def local() -> float:
    """Seconds of an interpreter that does nothing."""
    return _timed(lambda: ran(sys.executable, "-c", "pass"))


def docker(of: str) -> float:
    """Seconds of `docker run`."""
    return _timed(lambda: ran("docker", "run", "--rm", of))


def kubernetes(name: str) -> float:
    """Seconds of a Job, until its pod has ended."""
    return asyncio.run(_job(name))


async def _job(name: str) -> float:
    cluster, job = Cluster(), f"bare-{uuid.uuid4().hex[:8]}"
    container = {"name": "it", "image": name, "imagePullPolicy": "Never"}
    pod = {"metadata": {"labels": {"bare": job}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    manifest = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job},
        "spec": {"backoffLimit": 0, "template": pod},
    }  # fmt: skip
    try:
        began = time.perf_counter()
        await cluster.create(_JOBS, manifest)
        while True:
            pods = await cluster.items(_PODS, f"bare={job}")
            if pods and pods[0].get("status", {}).get("phase") in ("Succeeded", "Failed"):
                return time.perf_counter() - began
            assert time.perf_counter() < began + _PATIENCE, "the Job does not end"
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await cluster.delete(f"{_JOBS}/{job}")
        await cluster.close()


class Amazon:
    """The bare services of one server that speaks as AWS does.

    Attributes:
        name: What everything is called that is made here.
    """

    def __init__(self, registry: str, nothing_: str, empty: str) -> None:
        """Push the images that do nothing to `registry`, and make what they run in."""
        import boto3

        self.name = f"bare-{uuid.uuid4().hex[:10]}"
        self._clients = {one: boto3.client(one) for one in ("lambda", "batch", "ecs", "ec2", "iam", "logs")}
        self._images = {}
        for kind, of in (("nothing", nothing_), ("empty", empty)):
            reference = f"{registry}/{self.name}:{kind}"
            for words in (["tag", of, reference], ["push", "--quiet", reference], ["rmi", "--no-prune", reference]):
                ran("docker", *words)
            self._images[kind] = reference
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        self.role = self._of("iam").create_role(RoleName=self.name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        self._made = set[str]()
        self._undo: list[Callable[[], Any]] = [lambda: self._of("iam").delete_role(RoleName=self.name)]

    def close(self) -> None:
        """Remove it all."""
        for undo in reversed(self._undo):
            undo()

    def lambda_(self) -> tuple[float, float]:
        """Seconds of the first call of a function with an empty image, and of the second one."""
        amazon, name = self._of("lambda"), f"{self.name}-{uuid.uuid4().hex[:6]}"
        amazon.create_function(
            FunctionName=name, Role=self.role, PackageType="Image", Code={"ImageUri": self._images["empty"]},
            MemorySize=2048, Timeout=60,
        )  # fmt: skip
        try:
            cold, warm = (_timed(lambda: _read(amazon.invoke(FunctionName=name, Payload=b"{}"))) for _ in range(2))
            return cold, warm
        finally:
            amazon.delete_function(FunctionName=name)

    def batch(self) -> float:
        """Seconds of a job, until Batch says that it has ended."""
        batch = self._of("batch")
        if "batch" not in self._made:
            self._made.add("batch")
            self._queue()
        began = time.perf_counter()
        job = batch.submit_job(jobName=self.name, jobQueue=self.name, jobDefinition=self.name)["jobId"]
        while batch.describe_jobs(jobs=[job])["jobs"][0]["status"] not in ("SUCCEEDED", "FAILED"):
            time.sleep(_LOOK_SECONDS)
        return time.perf_counter() - began

    def ecs(self) -> float:
        """Seconds of a task, until ECS says that it has stopped."""
        ecs = self._of("ecs")
        if "ecs" not in self._made:
            self._made.add("ecs")
            container = {"name": "it", "image": self._images["nothing"], "memory": 2048, "essential": True}
            made = ecs.register_task_definition(
                family=self.name, containerDefinitions=[container], networkMode="awsvpc", cpu="1024", memory="2048",
                requiresCompatibilities=["FARGATE"],
            )["taskDefinition"]["taskDefinitionArn"]  # fmt: skip
            self._undo.append(lambda: ecs.deregister_task_definition(taskDefinition=made))
            if not any(one["status"] == "ACTIVE" for one in ecs.describe_clusters(clusters=["default"])["clusters"]):
                ecs.create_cluster(clusterName="default")
        subnets, groups = self._network()
        network = {"subnets": subnets[:1], "securityGroups": groups, "assignPublicIp": "ENABLED"}
        began = time.perf_counter()
        task = ecs.run_task(
            taskDefinition=self.name, launchType="FARGATE", count=1,
            networkConfiguration={"awsvpcConfiguration": network},
        )["tasks"][0]["taskArn"]  # fmt: skip
        while ecs.describe_tasks(tasks=[task])["tasks"][0]["lastStatus"] != "STOPPED":
            time.sleep(_LOOK_SECONDS)
        return time.perf_counter() - began

    def _queue(self) -> None:
        batch, name = self._of("batch"), self.name
        subnets, groups = self._network()
        batch.create_compute_environment(
            computeEnvironmentName=name, type="MANAGED", state="ENABLED", serviceRole=self.role,
            computeResources={"type": "FARGATE", "maxvCpus": 4, "subnets": subnets, "securityGroupIds": groups},
        )  # fmt: skip
        order = [{"order": 1, "computeEnvironment": name}]
        batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order)
        needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}]
        made = batch.register_job_definition(
            jobDefinitionName=name, type="container",
            containerProperties={"image": self._images["nothing"], "command": [], "resourceRequirements": needs},
        )["jobDefinitionArn"]  # fmt: skip

        def undo() -> None:
            batch.deregister_job_definition(jobDefinition=made)
            batch.update_job_queue(jobQueue=name, state="DISABLED")
            batch.delete_job_queue(jobQueue=name)
            batch.update_compute_environment(computeEnvironment=name, state="DISABLED")
            batch.delete_compute_environment(computeEnvironment=name)

        self._undo.append(undo)

    def _network(self) -> tuple[list[str], list[str]]:
        """Subnets and a security group of the default network."""
        ec2 = self._of("ec2")
        subnets = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
        return [one["SubnetId"] for one in subnets], [one["GroupId"] for one in groups][:1]

    def _of(self, service: str) -> Any:
        return self._clients[service]


def _read(answer: Any) -> None:
    assert not answer.get("FunctionError"), answer["Payload"].read()
    answer["Payload"].read()


def _timed(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def has_amazon() -> str:
    """Why there is no server here that speaks as AWS does; empty: there is one."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        return "AWS_ENDPOINT_URL names no server that speaks as AWS does"  # Amazon's own would be paid for
    return "" if os.environ.get("VOLVOX_REGISTRY") else "VOLVOX_REGISTRY names no registry that it reads"

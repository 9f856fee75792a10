"""The checks of Amazon ECS: credentials, cluster, roles, the queue of task events, the image, and one task."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from deployments.checks import registry
from deployments.checks.check import Check, Target, probed

_ANSWERS_SECONDS = 10
_PROBE_SECONDS = 180.0
_LOOK_SECONDS = 1.0
_TAG = "volvox.check"
_ECR = re.compile(r"^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$")
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN_KEY = {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure"}
_WRONG_SECRET = {"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


async def checks(target: Target, *, with_probe: bool) -> AsyncIterator[Check]:
    """See `deployments.checks.check.EngineChecks`."""
    aws = await asyncio.to_thread(_Aws, target)
    credentials = await asyncio.to_thread(_credentials, aws)
    yield credentials
    if credentials.ok is False:
        return
    found = await asyncio.gather(
        asyncio.to_thread(_cluster, aws), asyncio.to_thread(_roles, aws), asyncio.to_thread(_queue, aws), _image(aws)
    )
    cluster, roles, queue, image = found
    for check in (cluster, *roles, queue, image):
        yield check
    if target.pool.offers.gpus:
        yield await asyncio.to_thread(_gpus, aws)
    needed = (cluster, *roles, image)
    if with_probe and all(check.ok is not False for check in needed):
        for check in await asyncio.to_thread(_probe, aws):
            yield check


class _Aws:
    """The clients of AWS with the credentials and the region that Prefect's worker would use."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.configuration = target.configuration
        self._session: Any = None
        self._clients: dict[str, Any] = {}

    def client(self, service: str, region: str | None = None) -> Any:
        from botocore.config import Config

        if self._session is None:
            self._session = self.configuration.aws_credentials.get_boto3_session()
        key = f"{service}/{region or ''}"
        if key not in self._clients:
            patience = Config(
                connect_timeout=_ANSWERS_SECONDS, read_timeout=_ANSWERS_SECONDS, retries={"max_attempts": 2}
            )
            self._clients[key] = self._session.client(service, region_name=region, config=patience)
        return self._clients[key]

    @property
    def request(self) -> dict[str, Any]:
        """The request to run a task, as the template gives it."""
        return self.configuration.task_run_request or {}

    @property
    def cluster(self) -> str:
        return self.configuration.cluster or self.request.get("cluster") or "default"

    @property
    def launch_type(self) -> str:
        return self.request.get("launchType") or "FARGATE"


def refusal(name: str, error: Exception, doing: str) -> Check:
    """What an error of AWS means, for any call.

    Args:
        name: The check's name.
        error: As botocore raises it.
        doing: What was asked, for the sentence "... may not be ...".
    """
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    message = getattr(error, "response", {}).get("Error", {}).get("Message", "") or str(error)
    kind = type(error).__name__
    if code in _EXPIRED or kind in ("TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError"):
        return Check(
            "credentials", False, f"the AWS credentials have expired: {message}",
            "get new ones (`aws sso login`, or a new AWS_SESSION_TOKEN), and start the worker again with them",
        )  # fmt: skip
    if code in _UNKNOWN_KEY:
        return Check("credentials", False, f"AWS does not know this access key: {message}",
                     "correct AWS_ACCESS_KEY_ID, or the profile; a removed key must be replaced")  # fmt: skip
    if code in _WRONG_SECRET:
        return Check("credentials", False, f"the secret does not belong to the access key: {message}",
                     "correct AWS_SECRET_ACCESS_KEY, and the clock of this machine")  # fmt: skip
    if code in _DENIED:
        return Check(name, None, f"these credentials may not {doing}: {message}",
                     f"allow it to see whether it is there, or trust that it is (denied: {doing})")  # fmt: skip
    if kind in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return Check("credentials", False, f"there are no AWS credentials here: {message}",
                     "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret, or give the machine a role")  # fmt: skip
    if kind == "NoRegionError":
        return Check(name, False, "no AWS region is set", "set AWS_DEFAULT_REGION")
    if kind in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"):
        return Check(name, None, f"AWS does not answer: {message}", "check the network and AWS_ENDPOINT_URL")
    return Check(name, False, f"AWS refuses to {doing}: {code or kind}: {message}", "see what it says")


def _asked(name: str, doing: str, ask: Callable[[], Check]) -> Check:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return ask()
    except (BotoCoreError, ClientError) as error:
        return refusal(name, error, doing)


def _credentials(aws: _Aws) -> Check:
    def ask() -> Check:
        who = aws.client("sts").get_caller_identity()
        return Check("credentials", True, f"they are those of {who['Arn']}")

    return _asked("credentials", "sts:GetCallerIdentity", ask)


def _cluster(aws: _Aws) -> Check:
    def ask() -> Check:
        found = aws.client("ecs").describe_clusters(clusters=[aws.cluster])["clusters"]
        mend = f"`aws ecs create-cluster --cluster-name {aws.cluster}`, or correct job_variables.cluster"
        if not found:
            return Check("cluster", False, f"there is no cluster {aws.cluster!r} in this region and account", mend)
        if found[0]["status"] != "ACTIVE":
            return Check("cluster", False, f"cluster {aws.cluster!r} is {found[0]['status']}", mend)
        if aws.launch_type == "EC2" and not found[0].get("registeredContainerInstancesCount"):
            return Check("cluster", None, f"cluster {aws.cluster!r} has no container instance now",
                         "add instances, or a capacity provider that starts them")  # fmt: skip
        return Check("cluster", True, f"cluster {aws.cluster!r} is active")

    return _asked("cluster", "ecs:DescribeClusters", ask)


def _roles(aws: _Aws) -> list[Check]:
    configuration = aws.configuration
    definition = configuration.task_definition or {}
    execution = getattr(configuration, "execution_role_arn", None) or definition.get("executionRoleArn")
    task = (aws.request.get("overrides") or {}).get("taskRoleArn") or definition.get("taskRoleArn")
    found: list[Check] = []
    for title, arn in (("execution role", execution), ("task role", task)):
        if not arn:
            continue
        found.append(_asked(title, "iam:GetRole", lambda title=title, arn=arn: _role(aws, title, arn)))
    if not execution and aws.launch_type.startswith("FARGATE") and _ECR.match(registry.parts(_reference(aws))[0]):
        found.append(
            Check("execution role", False, "Fargate pulls from ECR with an execution role, and the file names none",
                  "set job_variables.execution_role_arn to a role with AmazonECSTaskExecutionRolePolicy")
        )  # fmt: skip
    return found


def _role(aws: _Aws, title: str, arn: str) -> Check:
    from botocore.exceptions import ClientError

    name = arn.rpartition("/")[2]
    mend = f"create it with ecs-tasks.amazonaws.com as its trusted service, or correct {title.replace(' ', '_')}_arn"
    try:
        role = aws.client("iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchEntity", "NoSuchEntityException"):
            return Check(title, False, f"there is no role {name!r}", mend)
        raise
    if "ecs-tasks.amazonaws.com" not in str(role.get("AssumeRolePolicyDocument")):
        return Check(title, False, f"role {name!r} does not trust ecs-tasks.amazonaws.com", mend)
    return Check(title, True, f"role {name!r} exists and ECS tasks may take it")


def _queue(aws: _Aws) -> Check:
    from botocore.exceptions import ClientError
    from prefect_aws.settings import AwsSettings

    settings = AwsSettings().ecs.observer
    if not settings.enabled:
        return Check("queue", None, "the worker's observer is switched off, so crashed tasks are not noticed by it")
    name = settings.sqs.queue_name

    def ask() -> Check:
        try:
            aws.client("sqs", settings.sqs.queue_region).get_queue_url(QueueName=name)
        except ClientError as error:
            if "NonExistentQueue" in error.response["Error"]["Code"]:
                return Check(
                    "queue", None, f"there is no SQS queue {name!r}; the worker of `volvox up` asks ECS itself how a "
                    "task ended, Prefect's own learns it from there",
                    f"`prefect-aws ecs-worker deploy-events --work-pool-name {aws.target.pool.name}` creates it with "
                    "its EventBridge rule",
                )  # fmt: skip
            raise
        return Check("queue", True, f"the SQS queue {name!r} exists")

    return _asked("queue", "sqs:GetQueueUrl", ask)


def _reference(aws: _Aws) -> str:
    for container in (aws.configuration.task_definition or {}).get("containerDefinitions") or []:
        if image := container.get("image"):
            return str(image)
    return aws.target.pool.image


async def _image(aws: _Aws) -> Check:
    image = _reference(aws)
    host, repository, reference = registry.parts(image)
    if not (match := _ECR.match(host)):
        return await registry.manifest(image)

    def ask() -> Check:
        from botocore.exceptions import ClientError

        wanted = {"imageDigest" if reference.startswith("sha256:") else "imageTag": reference}
        try:
            client = aws.client("ecr", match[2])
            client.describe_images(registryId=match[1], repositoryName=repository, imageIds=[wanted])
        except ClientError as error:
            if error.response["Error"]["Code"] in ("ImageNotFoundException", "RepositoryNotFoundException"):
                return Check("image", False, f"ECR has no {image}", "push it, or correct the pool's `image`")
            raise
        return Check("image", True, f"ECR has {image}")

    return await asyncio.to_thread(_asked, "image", "ecr:DescribeImages", ask)


def _gpus(aws: _Aws) -> Check:
    wanted = aws.target.pool.offers.gpus or 0
    if aws.launch_type.startswith("FARGATE"):
        return Check("gpu", False, f"the file offers {wanted}, and Fargate has no GPUs",
                     "use an EC2 cluster with GPU instances and launch_type EC2, or offer gpus: 0")  # fmt: skip

    def ask() -> Check:
        ecs = aws.client("ecs")
        arns = ecs.list_container_instances(cluster=aws.cluster, maxResults=100)["containerInstanceArns"]
        instances = ecs.describe_container_instances(cluster=aws.cluster, containerInstances=arns) if arns else {}
        most = max(
            (
                len(resource.get("stringSetValue") or [])
                for instance in instances.get("containerInstances", [])
                for resource in instance.get("registeredResources", [])
                if resource["name"] == "GPU"
            ),
            default=0,
        )
        if most >= wanted:
            return Check("gpu", True, f"an instance of the cluster has {most}")
        said = f"the file offers {wanted}, and no instance of cluster {aws.cluster!r} has more than {most} now"
        return Check("gpu", False if arns else None, said, "add GPU instances with ECS_ENABLE_GPU_SUPPORT=true")

    return _asked("gpu", "ecs:DescribeContainerInstances", ask)


def _probe(aws: _Aws) -> list[Check]:
    """Run the probe as Prefect's worker would run a task; the task and its definition go whatever happens."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        ecs = aws.client("ecs")
        arn, request = _request(aws, ecs)
    except (BotoCoreError, ClientError, ValueError) as error:
        return [refusal("probe", error, "ecs:RegisterTaskDefinition")]
    task = ""
    try:
        answer = ecs.run_task(**request)
        if answer["failures"] or not answer["tasks"]:
            reason = answer["failures"][0].get("reason", "") if answer["failures"] else "no task was made"
            return [Check("probe", False, f"ECS starts no task: {reason}", "give the cluster what is named")]
        task = answer["tasks"][0]["taskArn"]
        return _followed(ecs, aws.cluster, task)
    except (BotoCoreError, ClientError) as error:
        return [refusal("probe", error, "ecs:RunTask")]
    finally:
        with contextlib.suppress(BotoCoreError, ClientError):
            if task:
                ecs.stop_task(cluster=aws.cluster, task=task, reason="volvox pools check is done")
        with contextlib.suppress(BotoCoreError, ClientError):
            ecs.deregister_task_definition(taskDefinition=arn)


def _request(aws: _Aws, ecs: Any) -> tuple[str, dict[str, Any]]:
    """A task definition of its own, registered, and the request that runs it."""
    from prefect.client.schemas.objects import FlowRun

    target, configuration = aws.target, aws.configuration
    worker = target.worker(work_pool_name=target.pool.name)
    configuration.labels = {_TAG: target.pool.name}  # labels become tags of the task
    run = FlowRun(flow_id=uuid.uuid4(), name="volvox-check")
    definition = worker._prepare_task_definition(configuration, region=ecs.meta.region_name, flow_run=run)
    definition["family"] = f"volvox-check-{target.pool.name}"
    arn = ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
    return arn, worker._prepare_task_run_request(configuration, definition, arn, True)


def _followed(ecs: Any, cluster: str, task: str) -> list[Check]:
    ends, last = time.monotonic() + _PROBE_SECONDS, "PROVISIONING"
    while time.monotonic() < ends:
        found = ecs.describe_tasks(cluster=cluster, tasks=[task])["tasks"]
        if not found:
            return [Check("probe", False, "the task is gone before it told anything", "try again")]
        last = found[0].get("lastStatus", "")
        if last == "STOPPED":
            return ended(found[0])
        time.sleep(_LOOK_SECONDS)
    return [Check("probe", False, f"the task was {last} after {_PROBE_SECONDS:.0f} s",
                  "see why ECS finds no place for it: subnets, capacity, image size")]  # fmt: skip


def ended(task: dict[str, Any]) -> list[Check]:
    """What a stopped task means.

    Args:
        task: As DescribeTasks gives it.
    """
    containers = task.get("containers") or [{}]
    reason = containers[0].get("reason") or task.get("stoppedReason") or ""
    code = containers[0].get("exitCode")
    if "CannotPullContainerError" in reason or "CannotPullImage" in reason:
        return [Check("image", False, f"the task cannot pull its image: {reason}",
                      "push it where the task can pull it, and give the execution role the right to")]  # fmt: skip
    if "ResourceInitializationError" in reason:
        return [Check("probe", False, f"ECS cannot prepare the task: {reason}",
                      "give its subnets a way to ECR, and the execution role the rights")]  # fmt: skip
    if "OutOfMemory" in reason:
        return [Check("probe", False, f"the task ran out of memory: {reason}", "offer more memory_mb")]
    return probed("", code, "" if code is not None else reason or "the task stopped without an exit code")

"""A function is deployed to Lambda: everything that is missing is made, in an order that can be gone through again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.routes import route_of
from volvox.runtimes import answers
from volvox.runtimes.aws import buckets, direct, images, invoking, proving, roles, script_images, triggers
from volvox.runtimes.aws.account import Account, is_missing, name_of, section, told, unless_missing
from volvox.runtimes.aws.api_gateway import STATEMENT, Api
from volvox.runtimes.aws.lambda_objects import ALIAS, LambdaObjects, Wanted
from volvox.runtimes.aws.limits import beyond_lambda, size_of
from volvox.runtimes.aws.scratch import needed, scratch_of
from volvox.runtimes.models import Model, Models
from volvox.worker.describing import file_argument

_RETENTION_DAYS = 30


@dataclass(frozen=True, slots=True)
class Made:
    """What deploying came to.

    Attributes:
        account: Where it is.
        live: Lambda's number of the version that calls go to.
        instances: Those that answered when it was proven.
        cold_seconds: How long a cold start took, if there was one.
        queue: URL of the queue that buckets tell of new objects, or empty.
    """

    account: Account
    live: str
    instances: tuple[str, ...] = ()
    cold_seconds: float | None = None
    queue: str = ""


def deploy(
    function: Function, version: str, *, models: Models, owner: str, tell: Callable[[str], None], to_batch: bool = False
) -> Made:
    """Have calls of the function answered by `version` of it; a second time nothing is written.

    Args:
        function: Its definition.
        version: What the dispatcher calls it.
        models: Where the model and its image are found.
        owner: What everything is tagged with.
        tell: Hears of what is done.
        to_batch: Whether Batch does what is beyond Lambda.

    Raises:
        InvalidInput: If Lambda cannot run it as it is defined, or AWS refuses.
        ModuleFailed: If it does not answer as it must; the version before goes on.
        Unavailable: If AWS or the container engine does not answer.
    """
    model = models.resolve(function.model) if function.model else None
    source = images.source_of(function, models, model)
    if (reasons := list(beyond_lambda(function, source.size))) and not to_batch:
        said = "; ".join(reasons)
        raise InvalidInput(f"Lambda cannot run function {function.name!r}: {said}; name runtime batch")
    images.check_architecture(function, source)
    account = Account.of(function, "lambda")
    for made in buckets.ensure(account, function, owner):
        tell(f"made the bucket {made}")
    objects, scratch = LambdaObjects(account, owner), scratch_of(account, function)
    straight = function.trigger == "direct"
    variables = _variables(function)
    route = route_of(function)
    if straight or route:
        variables |= direct.variables(function, needed(account, function) if straight else None)
    dead_letters = roles.dead_letters_of(account, function)
    prefix = f"{scratch.bucket}/{scratch.prefix}" if scratch else ""
    role = roles.ensure(account, function, owner, roles.policy(account, function, prefix))
    _ensure_log(account, function)
    digest = model.digest if model else ""
    wanted = Wanted(
        function, f"{version}-{digest}", source.digest, role, size_of(function),
        images.wanted_architecture(function), variables,
    )  # fmt: skip
    proof = _Proof(account, function, models, model, tell)
    live = objects.ensure(wanted, lambda: images.placed(account, function, source, owner), proof)
    queue = ""
    if straight:
        _call_by_buckets(objects, function, dead_letters, tell)
    elif triggers.watched(function):
        queue = triggers.ensure_queue(account, function, owner)
        arn = triggers.queue_arn(account, function.name)
        for changed in triggers.ensure(account, function, "QueueConfigurations", arn):
            tell(changed)
    if not straight:
        objects.ensure_concurrency(wanted.name, 0)
    api = Api(objects, function)
    if route:
        tell(
            f"it answers at {api.ensure(route)}, {'to everybody' if route.is_open else 'to who may call it (AWS_IAM)'}"
        )
    else:
        api.remove()
        objects.remove_permission(wanted.name, STATEMENT)
    return Made(account, live, tuple(proof.instances), proof.cold_seconds, queue)


def _call_by_buckets(
    objects: LambdaObjects, function: Function, dead_letters: str, tell: Callable[[str], None]
) -> None:  # fmt: skip
    """Have buckets call the function; what it never answers goes to the dead letters."""
    account, owner, name = objects.account, objects.owner, name_of(function.name)
    if dead_letters == triggers.queue_arn(account, function.name, direct.DEAD):
        triggers.ensure_dead_letters(account, function, owner)
    objects.ensure_async(name, 2, dead_letters)
    objects.ensure_concurrency(name, function.scaling.max_scale * function.scaling.concurrency)
    for number, bucket in enumerate(sorted({one.bucket for one in triggers.watched(function)})):
        source = f"arn:{account.partition}:s3:::{bucket}"
        objects.ensure_permission(name, f"bucket-{number}", "s3.amazonaws.com", source)
    arn = account.arn("lambda", f"function:{name}:{ALIAS}")
    for changed in triggers.ensure(account, function, "LambdaFunctionConfigurations", arn):
        tell(changed)
    triggers.remove_queue(account, function.name)


def remove(account: Account, function: Function, owner: str, elsewhere: Function | None = None) -> None:
    """Remove all that `deploy` makes; scratch files too, of buckets nothing else.

    Args:
        account: Where it is.
        function: What may have been made.
        owner: What everything is tagged with.
        elsewhere: The function as another runtime of AWS has it: what is that one's too stays.

    Raises:
        InvalidInput: If AWS refuses.
        Unavailable: If it does not answer.
    """
    name = name_of(function.name)
    triggers.remove(account, function, elsewhere)
    if elsewhere is None:
        triggers.remove_queue(account, function.name)
    triggers.remove_queue(account, function.name, direct.DEAD)
    objects = LambdaObjects(account, owner)
    Api(objects, function).remove()
    objects.remove(name)
    group = f"/aws/lambda/{name}"
    with told(f"remove the log {group}"), unless_missing():
        account.client("logs").delete_log_group(logGroupName=group)
    if elsewhere is not None:
        return
    roles.remove(account, function.name)
    if section(function, "ecr").get("delete_image", True) and account.is_amazon:
        images.remove(account, function.name)
    if not function.model:
        script_images.forget(function.name)
    scratch = scratch_of(account, function)
    if scratch is not None:
        with unless_missing():
            scratch.clear()


class _Proof:
    """Asks a new version what it must be able to answer."""

    def __init__(
        self, account: Account, function: Function, models: Models, model: Model | None, tell: Callable[[str], None]
    ) -> None:
        self.instances: list[str] = []
        self.cold_seconds: float | None = None
        self._account, self._function, self._models, self._model = account, function, models, model
        self._tell = tell

    def __call__(self, version: str) -> None:
        function, model = self._function, self._model
        if model is None:
            return  # a script answers files, and there is none that it must be able to answer
        name = name_of(function.name)
        self._tell(f"starting version {version} of the Lambda function {name}")
        described, instance, seconds = invoking.describe(self._account, name, version)
        self.instances, self.cold_seconds = [instance], seconds or None
        answers.check_arguments(described, function.arguments, takes_files=bool(function.inputs))
        if file_argument(described) is None:
            return
        with tempfile.TemporaryDirectory(prefix="volvox-proof-") as folder:
            calls = proving.calls_of(self._models.samples(model), Path(folder))
            outcomes = invoking.invoke(self._account, function, version, calls).outcomes if calls else ()
            proving.look_at(calls, outcomes, model.labels)


def _variables(function: Function) -> dict[str, str]:
    """Lambda's own environment; a script's is sent with each call, so that no secret stands there."""
    given = section(function, "lambda", "environment").get("Variables") or {}
    return {str(name): str(value) for name, value in given.items()}


def _ensure_log(account: Account, function: Function) -> None:
    """The function's log group, with an end to how long it is kept."""
    logs, group = account.client("logs"), f"/aws/lambda/{name_of(function.name)}"
    days = int(section(function, "cloudwatch").get("log_retention_policy_in_days") or _RETENTION_DAYS)
    from botocore.exceptions import ClientError

    with told(f"make the log {group}"):
        found = logs.describe_log_groups(logGroupNamePrefix=group).get("logGroups", [])
        there = next((one for one in found if one["logGroupName"] == group), None)
        if there is None:
            try:
                logs.create_log_group(logGroupName=group)
            except ClientError as error:
                if is_missing(error):
                    raise
                if "AlreadyExists" not in str(error):
                    raise
        if there is None or there.get("retentionInDays") != days:
            logs.put_retention_policy(logGroupName=group, retentionInDays=days)

"""A Lambda function with its versions and its alias, made and mended; each step can be done again.

The alias `live` says which version answers. A new one is published and proven beside the one before; then the alias is
moved, which is one step. What the alias is described by is the digest of what it leads to: by it a second deploying
knows that nothing is to be done. Calls of here name the version itself, so that one which was begun before a change is
answered by what it was meant for; Lambda's own events go to the alias.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from volvox.errors import InvalidInput, Unavailable
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.runtimes.aws.account import (
    OWNER,
    Account,
    code_of,
    is_missing,
    message_of,
    name_of,
    section,
    tags,
    told,
    unless_missing,
)
from volvox.runtimes.aws.limits import LAMBDA_VARIABLES_BYTES, Size, variables_bytes

ALIAS = "live"
_ROLE_SECONDS = 40.0  # until IAM has told everybody of a new role
_ACTIVE_SECONDS = 300.0
_LOOK_SECONDS = 0.5
_KEPT_VERSIONS = 2  # the one that answers, and the one before


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Lambda function as it is to be.

    Attributes:
        function: Its definition.
        version: What the dispatcher calls it, the model's version included.
        content: Digest of its image's content.
        role: ARN of its role.
        size: Memory, time, disk.
        architecture: `x86_64` or `arm64`.
        variables: Its environment.
    """

    function: Function
    version: str
    content: str
    role: str
    size: Size
    architecture: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What the alias is described by."""
        told_ = [self.version, self.content, self.role, self.size.memory_mb, self.size.seconds, self.size.storage_mb]
        return digest_of(["lambda", 1, *told_, self.architecture, self.variables, self._more])

    @property
    def name(self) -> str:
        """The Lambda function's name."""
        return name_of(self.function.name)

    @property
    def _more(self) -> dict[str, Any]:
        """Of SCAR's keys those that are Lambda's own."""
        given, found = section(self.function, "lambda"), {}
        if vpc := given.get("vpc"):
            found["VpcConfig"] = vpc
        if systems := given.get("file_system"):
            found["FileSystemConfigs"] = systems
        return found

    def configuration(self) -> dict[str, Any]:
        """As `UpdateFunctionConfiguration` takes it."""
        return {
            "FunctionName": self.name,
            "Role": self.role,
            "Description": self.function.description[:200] or f"The function {self.function.name}, made by Volvox",
            "Timeout": self.size.seconds,
            "MemorySize": self.size.memory_mb,
            "EphemeralStorage": {"Size": self.size.storage_mb},
            "Environment": {"Variables": self.variables},
            **self._more,
        }


class LambdaObjects:
    """The Lambda functions of one owner in one account."""

    def __init__(self, account: Account, owner: str) -> None:
        """`owner` is what everything is tagged with that is made here."""
        self.account, self.owner = account, owner

    def live(self, name: str) -> tuple[str, str] | None:
        """Version that calls go to and the digest of what it is; None: there is none."""
        from botocore.exceptions import ClientError

        with told(f"look at the Lambda function {name}"):
            try:
                alias = self._lambda.get_alias(FunctionName=name, Name=ALIAS)
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
        return str(alias["FunctionVersion"]), str(alias.get("Description") or "")

    def ensure(self, wanted: Wanted, image: Callable[[], str], prove: Callable[[str], None]) -> str:
        """Have calls answered by what is wanted; the version that they go to.

        Args:
            wanted: What is wanted.
            image: Puts the image where AWS reads it, and gives its reference; asked only if something is to be done.
            prove: Is given a new version, and raises if it does not answer as it must; then the one before goes on.

        Raises:
            InvalidInput: If AWS refuses, or another's function has its name.
            Unavailable: If AWS does not answer.
        """
        name = wanted.name
        if (bytes_ := variables_bytes(wanted.variables)) > LAMBDA_VARIABLES_BYTES:
            raise InvalidInput(
                f"the environment of function {wanted.function.name!r} has {bytes_:,} bytes, and Lambda takes "
                f"{LAMBDA_VARIABLES_BYTES:,}: put larger values into the script, or name runtime batch"
            )
        live = self.live(name)
        if live is not None and live[1] == wanted.digest:
            return live[0]
        reference = image()
        with told(f"make the Lambda function {name}"):
            present = self._function(name)
            if present is None:
                self._create(wanted, reference)
            else:
                self._refuse_another_s(wanted, present)
                self._update(wanted, reference, present)
            version = self._published(wanted)
            self._active(name, version)
        try:
            prove(version)
        except BaseException:
            self._drop(name, version, live)
            raise
        with told(f"have calls go to version {version} of {name}"):
            if live is None:
                self._lambda.create_alias(
                    FunctionName=name, Name=ALIAS, FunctionVersion=version, Description=wanted.digest
                )
            else:
                self._lambda.update_alias(
                    FunctionName=name, Name=ALIAS, FunctionVersion=version, Description=wanted.digest
                )
            if self.account.is_amazon:  # others give the number of a version that was removed to the next one
                self._tidy(name, {version, live[0] if live else version})
        return version

    def remove(self, name: str) -> None:
        """Remove the function with all versions; nothing if there is none, or it is another's."""
        with told(f"remove the Lambda function {name}"), unless_missing():
            if (present := self._function(name)) and present.get("Tags", {}).get(OWNER) == self.owner:
                self._lambda.delete_function(FunctionName=name)

    def ensure_async(self, name: str, attempts: int, dead_letters: str) -> None:
        """How often Lambda tries an event again that nobody waits for, and where it goes then."""
        from botocore.exceptions import ClientError

        wanted: dict[str, Any] = {"MaximumRetryAttempts": attempts}
        if dead_letters:
            wanted["DestinationConfig"] = {"OnFailure": {"Destination": dead_letters}}
        with told(f"say where events go that {name} cannot answer"):
            try:
                there = self._lambda.get_function_event_invoke_config(FunctionName=name, Qualifier=ALIAS)
                destination = there.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
                if (there.get("MaximumRetryAttempts"), destination) == (attempts, dead_letters):
                    return
            except ClientError as error:
                if not is_missing(error):
                    raise
            self._lambda.put_function_event_invoke_config(FunctionName=name, Qualifier=ALIAS, **wanted)

    def ensure_concurrency(self, name: str, most: int) -> None:
        """How many events Lambda has answered at a time at most; 0: as many as the account may."""
        with told(f"bound how many instances {name} has"):
            there = self._lambda.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
            if (there or 0) == most:
                return
            if most:
                self._lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=most)
            else:
                self._lambda.delete_function_concurrency(FunctionName=name)

    def ensure_permission(self, name: str, statement: str, principal: str, source: str) -> None:
        """Let another service call the alias: S3 for a bucket, an API for its route."""
        with told(f"let {principal} call {name}"):
            there = [one for one in self._statements(name) if one.get("Sid") == statement]
            if any(source in json.dumps(one) for one in there):
                return
            if there:
                self._lambda.remove_permission(FunctionName=name, StatementId=statement, Qualifier=ALIAS)
            more = {"SourceAccount": self.account.id} if principal == "s3.amazonaws.com" else {}
            self._lambda.add_permission(
                FunctionName=name, StatementId=statement, Action="lambda:InvokeFunction", Principal=principal,
                SourceArn=source, Qualifier=ALIAS, **more,
            )  # fmt: skip

    def remove_permission(self, name: str, statement: str) -> None:
        """Take back what `ensure_permission` let another service do; nothing if it never did."""
        with told(f"take back who may call {name}"), unless_missing():
            if any(one.get("Sid") == statement for one in self._statements(name)):
                self._lambda.remove_permission(FunctionName=name, StatementId=statement, Qualifier=ALIAS)

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _lambda(self) -> Any:
        return self.account.client("lambda")

    def _statements(self, name: str) -> list[dict[str, Any]]:
        """Who may call the alias."""
        from botocore.exceptions import ClientError

        try:
            return json.loads(self._lambda.get_policy(FunctionName=name, Qualifier=ALIAS)["Policy"])["Statement"]
        except ClientError as error:
            if is_missing(error):
                return []
            raise

    def _function(self, name: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            return self._lambda.get_function(FunctionName=name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def _refuse_another_s(self, wanted: Wanted, present: dict[str, Any]) -> None:
        owner = present.get("Tags", {}).get(OWNER)
        if owner != self.owner:
            whose = "another dispatcher's" if owner else "not made by Volvox"
            raise InvalidInput(
                f"there is a Lambda function {wanted.name} in this account already, and it is {whose}: give the "
                "function another name, or remove that one"
            )

    def _create(self, wanted: Wanted, image: str) -> None:
        deadline = time.monotonic() + _ROLE_SECONDS
        while True:
            try:
                self._lambda.create_function(
                    **wanted.configuration(), PackageType="Image", Code={"ImageUri": image}, Publish=False,
                    Architectures=[wanted.architecture], Tags=tags(wanted.function.name, self.owner),
                )  # fmt: skip
                break
            except Exception as error:
                young = code_of(error) == "InvalidParameterValueException" and "assumed by Lambda" in message_of(error)
                if not young or time.monotonic() > deadline:
                    raise
            time.sleep(2.0)
        self._active(wanted.name)

    def _update(self, wanted: Wanted, image: str, present: dict[str, Any]) -> None:
        configuration = present["Configuration"]
        code = present.get("Code", {}).get("ImageUri") != image
        if code or configuration.get("Architectures", ["x86_64"]) != [wanted.architecture]:
            self._lambda.update_function_code(
                FunctionName=wanted.name, ImageUri=image, Architectures=[wanted.architecture], Publish=False
            )
            self._active(wanted.name)
        new = wanted.configuration()
        there = {
            **configuration,
            "Environment": {"Variables": configuration.get("Environment", {}).get("Variables", {})},
        }
        if any(there.get(key) != value for key, value in new.items()):
            self._lambda.update_function_configuration(**new)
            self._active(wanted.name)

    def _published(self, wanted: Wanted) -> str:
        """The version that is as wanted: one that an earlier attempt published, or a new one."""
        for page in self._lambda.get_paginator("list_versions_by_function").paginate(FunctionName=wanted.name):
            for one in page["Versions"]:
                if one["Version"] != "$LATEST" and one.get("Description") == wanted.digest:
                    return str(one["Version"])
        made = self._lambda.publish_version(FunctionName=wanted.name, Description=wanted.digest)
        return str(made["Version"])

    def _active(self, name: str, version: str = "") -> None:
        """Wait until the function, or a version of it, takes calls and changes."""
        deadline = time.monotonic() + _ACTIVE_SECONDS
        while True:
            more = {"Qualifier": version} if version else {}
            there = self._lambda.get_function_configuration(FunctionName=name, **more)
            state, update = there.get("State", "Active"), there.get("LastUpdateStatus", "Successful")
            if "Failed" in (state, update):
                why = there.get("StateReason") or there.get("LastUpdateStatusReason") or "it does not say why"
                raise InvalidInput(f"AWS cannot run the Lambda function {name}: {why}")
            if state in ("Active", "Inactive") and update != "InProgress":
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"the Lambda function {name} is {state} after {_ACTIVE_SECONDS:.0f} s; do it again")
            time.sleep(_LOOK_SECONDS)

    def _drop(self, name: str, version: str, live: tuple[str, str] | None) -> None:
        """Remove a version that did not prove itself; the whole function if it has no other one."""
        with told(f"remove version {version} of {name}"), unless_missing():
            if live is None:
                self._lambda.delete_function(FunctionName=name)
            elif version != live[0]:
                self._lambda.delete_function(FunctionName=name, Qualifier=version)

    def _tidy(self, name: str, kept: set[str]) -> None:
        """Remove versions that neither answer nor did so just before."""
        numbers: list[int] = []
        for page in self._lambda.get_paginator("list_versions_by_function").paginate(FunctionName=name):
            numbers += [int(one["Version"]) for one in page["Versions"] if one["Version"].isdigit()]
        for number in sorted(numbers)[: max(0, len(numbers) - _KEPT_VERSIONS)]:
            if str(number) not in kept:
                with unless_missing():
                    self._lambda.delete_function(FunctionName=name, Qualifier=str(number))

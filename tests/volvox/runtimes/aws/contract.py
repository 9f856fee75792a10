"""Services of AWS in memory behind boto3's own clients: botocore checks what is asked and answered against its models.

A service is an object with a method for each operation (`CreateService`), which takes what is asked and gives what is
answered, or raises `Refusal`. What is asked was validated and serialised by botocore before; what is answered is
validated here. Nothing goes over a network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.validate import ParamValidator

from volvox.runtimes.aws.account import Account

_READS = ("Get", "List", "Describe", "Head")


class Killed(BaseException):
    """The process ended at this request."""


class Refusal(Exception):
    """An error as AWS answers it."""

    def __init__(self, code: str, message: str = "no", status: int = 400) -> None:
        super().__init__(code)
        self.parsed = {
            "Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status},
        }  # fmt: skip
        self.status = status


@dataclass
class Told:
    """What was asked.

    Attributes:
        writes: `SERVICE.OPERATION` of what changed something, with what was asked.
        dies_at: The process ends before the write of this number, counted from 1; 0: never.
    """

    writes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    dies_at: int = 0

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.writes]


class ContractAccount(Account):
    """An account of these services."""

    region = "eu-west-1"
    partition = "aws"
    is_amazon = True

    def __init__(self, told: Told, **services: Any) -> None:
        super().__init__()
        self.told, self._services, self._id = told, services, "123456789012"
        self._made_clients: dict[str, Any] = {}

    def client(self, service: str, *, seconds: float = 60.0) -> Any:
        if service not in self._made_clients:
            self._made_clients[service] = self._connected(service)
        return self._made_clients[service]

    def _connected(self, service: str) -> Any:
        made = boto3.client(
            service, region_name="eu-west-1", aws_access_key_id="k", aws_secret_access_key="s",
            endpoint_url="http://127.0.0.1:9",
        )  # fmt: skip
        backend, asked = self._services[service.replace("-", "_")], {}

        def given(params: dict[str, Any], model: Any, **_: Any) -> None:
            asked[model.name] = {**params}

        def answered(model: Any, **_: Any) -> Any:
            name, params = model.name, asked.pop(model.name)
            if not name.startswith(_READS):
                if len(self.told.writes) + 1 == self.told.dies_at:
                    raise Killed
                self.told.writes.append((f"{service}.{name}", params))
            try:
                found = copy.deepcopy(getattr(backend, name)(**params) or {})
            except Refusal as error:
                return AWSResponse("", error.status, {}, None), error.parsed
            if model.output_shape is not None:
                report = ParamValidator().validate(found, model.output_shape)
                assert not report.has_errors(), f"{name}: {report.generate_report()}"
            return AWSResponse("", 200, {}, None), {**found, "ResponseMetadata": {"HTTPStatusCode": 200}}

        made.meta.events.register("before-parameter-build", given)
        made.meta.events.register("before-call", answered)
        return made

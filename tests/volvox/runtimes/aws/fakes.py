"""Accounts whose services are what a test makes of them; what is written is kept."""

from __future__ import annotations

import copy
from typing import Any

from volvox.runtimes.aws.account import Account


class FakeAccount(Account):
    """An account with these services."""

    def __init__(self, **services: Any) -> None:
        super().__init__()
        self._services = services
        self._id = "123456789012"

    def client(self, service: str, *, seconds: float = 60.0) -> Any:
        return self._services[service]

    region = "eu-west-1"
    partition = "aws"
    is_amazon = True


class Buckets:
    """The notifications of buckets."""

    def __init__(self, **notifications: dict[str, Any]) -> None:
        self.notifications = notifications
        self.written = 0

    def get_bucket_notification_configuration(self, Bucket: str) -> dict[str, Any]:
        return {"ResponseMetadata": {}, **copy.deepcopy(self.notifications.get(Bucket, {}))}

    def put_bucket_notification_configuration(self, Bucket: str, NotificationConfiguration: dict[str, Any]) -> None:
        self.written += 1
        self.notifications[Bucket] = copy.deepcopy(NotificationConfiguration)

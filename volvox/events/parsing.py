"""Notifications that files have come, in every form that stores and gateways send, read into arrivals."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from volvox.errors import InvalidInput
from volvox.events.senders import Sender
from volvox.inbox import Arrival
from volvox.places import relative
from volvox.places.addresses import Address, parsed
from volvox.places.keys import hidden, shown

FORMS = "S3, MinIO, Ceph, EventBridge, SNS, Onedata (OneTrigger), dCache, Rucio, OSCAR's delegated or an API gateway's"
ANYBODY = Sender()

_CREATED = re.compile(r"(s3:)?ObjectCreated(:.*)?", re.DOTALL)
_S3_SOURCE = re.compile(r"[a-z0-9_.-]+:s3")  # aws:s3, minio:s3, ceph:s3, and of those that do as these do
_PLAIN_KEYS = "ceph:s3"  # which alone does not quote keys
_DCACHE_MASKS = {"IN_CLOSE_WRITE", "IN_MOVED_TO", "IN_CREATE"}
_RUCIO_ARRIVED = {"", "transfer-done", "upload", "create", "created"}
_SNS_HOST = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")
_DEEPEST = 5
_ENVELOPES = ("SubscriptionConfirmation", "UnsubscribeConfirmation", "Notification")


@dataclass(frozen=True, slots=True)
class Notification:
    """What a notification said.

    Attributes:
        arrivals: Files that it tells of; none for those that tell of something else, tests among them.
        confirm: An address of SNS that is to be opened, so that a subscription begins.
    """

    arrivals: tuple[Arrival, ...] = ()
    confirm: str = ""


def parse(body: bytes | str, sender: Sender = ANYBODY, source: str = "webhook") -> Notification:
    """Read a notification.

    Args:
        body: JSON, in any of `FORMS`, also one in the other, and several in a list.
        sender: Who sent it, and how far it is believed.
        source: What `Arrival.source` says.

    Raises:
        InvalidInput: If it is none of these, or speaks of a place that the sender may not speak of.
    """
    return _Reading(sender, source).notification(_json(body), 0)


def _json(body: bytes | str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput(f"this is no JSON; send a notification in a form of {FORMS}") from None


class _Reading:
    def __init__(self, sender: Sender, source: str) -> None:
        self.sender, self.source = sender, source
        self.places = [parsed(one) for one in sender.places]

    def notification(self, told: Any, depth: int) -> Notification:
        if depth > _DEEPEST:
            raise InvalidInput("the notification is in too many envelopes")
        if isinstance(told, list):
            every = [self.notification(one, depth + 1) for one in told]
            confirm = next((one.confirm for one in every if one.confirm), "")
            return Notification(tuple(arrival for one in every for arrival in one.arrivals), confirm)
        if not isinstance(told, dict):
            raise _unknown(told)
        if told.get("Type") in _ENVELOPES and "TopicArn" in told:
            return self._sns(told, depth)
        if "storage_provider" in told and "event" in told:
            return self.notification(_inner(told["event"]), depth + 1)
        if "httpMethod" in told or ("requestContext" in told and "body" in told):
            return self.notification(_body_of(told), depth + 1)
        return Notification(tuple(self._arrivals(told, depth)))

    def _arrivals(self, told: dict[str, Any], depth: int) -> Iterator[Arrival]:
        if told.get("Event") == "s3:TestEvent":
            return
        if told.get("source") == "aws.s3" and "detail-type" in told:
            yield from self._eventbridge(told)
        elif isinstance(told.get("Records"), list):
            yield from self._records(told, told["Records"], depth)
        elif isinstance(told.get("event"), dict) and "name" in told["event"]:
            event = told["event"]
            yield from self._rucio(told, "", event) if "scope" in event else self._dcache(told, event)
        elif "event_type" in told and isinstance(told.get("payload"), dict):
            yield from self._rucio(told, _text(told, "event_type"), told["payload"])
        else:
            raise _unknown(told)

    # -- buckets -------------------------------------------------------------------------------------------------

    def _records(self, told: dict[str, Any], records: list[Any], depth: int) -> Iterator[Arrival]:
        for record in records:
            if not isinstance(record, dict):
                raise _unknown(told)
            kind = record.get("eventSource") or record.get("EventSource")
            if kind == "OneTrigger":
                yield from self._onedata(told)
            elif kind == "aws:sns":
                yield from self.notification(_part(record, "Sns"), depth + 1).arrivals
            elif kind == "aws:sqs":
                yield from self.notification(_inner(record.get("body")), depth + 1).arrivals
            elif isinstance(kind, str) and _S3_SOURCE.fullmatch(kind):
                name = record.get("eventName") or told.get("EventName") or "ObjectCreated"
                if isinstance(name, str) and _CREATED.fullmatch(name):
                    yield from self._record(told, record, quoted=kind != _PLAIN_KEYS)
            else:
                raise InvalidInput(
                    f"a record of the notification comes from {shown(str(kind))}; known are: "
                    "aws:s3, minio:s3, ceph:s3, OneTrigger"
                )

    def _record(self, told: dict[str, Any], record: dict[str, Any], *, quoted: bool) -> Iterator[Arrival]:
        s3 = _part(record, "s3")
        thing = _part(s3, "object")
        key = _text(thing, "key")
        if quoted:
            key = unquote_plus(key, errors="surrogateescape")
        asked, identity = record.get("requestParameters"), record.get("userIdentity")
        users = [one.get("principalId") for one in (asked, identity) if isinstance(one, dict)]
        # Scripts read the first record only, so each arrival has a notification of its own.
        event = {**told, "Records": [record]}
        yield from self._in_bucket(
            _text(_part(s3, "bucket"), "name"), key, _version(thing.get("versionId")), users, event
        )

    def _eventbridge(self, told: dict[str, Any]) -> Iterator[Arrival]:
        if told["detail-type"] != "Object Created":
            return
        detail = _part(told, "detail")
        thing = _part(detail, "object")
        bucket, version = _text(_part(detail, "bucket"), "name"), _version(thing.get("version-id"))
        yield from self._in_bucket(bucket, _text(thing, "key"), version, [detail.get("requester")], told)

    def _in_bucket(
        self, bucket: str, key: str, version: str, users: list[Any], event: dict[str, Any]
    ) -> Iterator[Arrival]:
        own = [one for one in self.places if one.kind == "s3" and one.name == bucket]
        if self.places and not own:
            raise self._not_its_own(f"the bucket {shown(bucket)}")
        address = parsed(f"s3://{bucket}")
        if address.name != bucket:
            raise InvalidInput(f"{shown(bucket)} is the name of no bucket")
        yield from self._arrived(own or [address], key, event, version, users)

    # -- others --------------------------------------------------------------------------------------------------

    def _onedata(self, told: dict[str, Any]) -> Iterator[Arrival]:
        space, _, key = _text(told, "Key").strip("/").partition("/")
        own = [one for one in self.places if one.kind == "onedata" and one.name == space]
        if not own:
            raise self._not_its_own(f"the space {shown(space)}")
        yield from self._arrived(own, key, told)

    def _dcache(self, told: dict[str, Any], event: dict[str, Any]) -> Iterator[Arrival]:
        given = event.get("mask")
        masks = {one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str)}
        if not masks & _DCACHE_MASKS or "IN_ISDIR" in masks:
            return
        folder = self._folder("dCache")
        name = _text(event, "name").strip("/")
        yield from self._arrived([folder], f"{folder.key}/{name}" if folder.key else name, told)

    def _rucio(self, told: dict[str, Any], kind: str, payload: dict[str, Any]) -> Iterator[Arrival]:
        if kind.lower() not in _RUCIO_ARRIVED:
            return
        folder = self._folder("Rucio")
        scope, name = _text(payload, "scope"), _text(payload, "name")
        said = payload.get("dst-url") or payload.get("url")
        key = _below(folder, said) if isinstance(said, str) else None
        if key is None:  # where Rucio itself puts a file, unless a site says otherwise
            digest = hashlib.md5(f"{scope}:{name}".encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
            path = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
            key = f"{folder.key}/{path}/{digest[:2]}/{digest[2:4]}/{name}".lstrip("/")
        yield from self._arrived([folder], key, told)

    def _folder(self, who: str) -> Address:
        own = [one for one in self.places if one.kind == "webdav"]
        if len(own) != 1:
            raise InvalidInput(
                f"a notification of {who} does not say where its files are; give the sender {self.sender.name!r} the "
                "WebDAV folder as its only place"
            )
        return own[0]

    # -- envelopes -----------------------------------------------------------------------------------------------

    def _sns(self, told: dict[str, Any], depth: int) -> Notification:
        topic = told["TopicArn"]
        if self.sender.topics and topic not in self.sender.topics:
            raise InvalidInput(f"the topic {shown(str(topic))} is none of the sender {self.sender.name!r}")
        if told["Type"] == "Notification":
            return self.notification(_inner(told.get("Message")), depth + 1)
        if told["Type"] == "UnsubscribeConfirmation":
            return Notification()
        if topic not in self.sender.topics:
            raise InvalidInput(
                f"nobody here asked for the topic {shown(str(topic))}; name it among the sender's topics"
            )
        address = _text(told, "SubscribeURL")
        try:
            parts = urlsplit(address)
            sure = parts.scheme == "https" and _SNS_HOST.fullmatch(parts.netloc)
        except ValueError:
            sure = None
        if not sure:
            raise InvalidInput("the address by which the subscription is to be confirmed is none of Amazon SNS")
        return Notification(confirm=address)

    # -- inside --------------------------------------------------------------------------------------------------

    def _arrived(
        self,
        places: list[Address],
        key: str,
        event: dict[str, Any],
        version: str = "",
        users: list[Any] | None = None,
    ) -> Iterator[Arrival]:
        if not key or key.endswith("/") or hidden(key):
            return  # what shows a folder, or is being written
        try:
            key.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"the key {shown(key)} is not valid Unicode") from None
        if "\0" in key:
            raise InvalidInput(f"the key {shown(key)} has a NUL in it")
        root = places[0].root
        if not any(not one.key or key == one.key or relative(one.url, root, key) is not None for one in places):
            return  # of a bucket as a whole the sender may be told more than is asked for here
        user = next((one for one in users or () if isinstance(one, str) and one), "") if self.sender.trusted else ""
        try:
            text = json.dumps(event)
        except (ValueError, RecursionError):
            text = ""
        arrival = Arrival(root, key, version, self.source, _plain(user), text)
        yield replace(arrival, function=self.sender.function)

    def _not_its_own(self, what: str) -> InvalidInput:
        own = ", ".join(self.sender.places) or "none"
        return InvalidInput(f"the sender {self.sender.name!r} may not speak of {what}; its places are: {own}")


def _unknown(told: Any) -> InvalidInput:
    what = {str: "a text", bool: "true or false", int: "a number", float: "a number"}.get(type(told), "null")
    if isinstance(told, dict):
        what = f"an object with {', '.join(shown(str(key)) for key in list(told)[:5]) or 'nothing'}"
    return InvalidInput(f"the notification is {what}, in no known form; send one in a form of {FORMS}")


def _part(told: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(part := told.get(name), dict):
        raise InvalidInput(f"the notification has no {name!r} where its form has one")
    return part


def _text(told: dict[str, Any], name: str) -> str:
    if not isinstance(value := told.get(name), str):
        raise InvalidInput(f"the notification has no text {name!r} where its form has one")
    return value


def _version(given: Any) -> str:
    """A version id; `null`, and the `1` of early MinIO, are what a bucket without versions says."""
    return _plain(given) if isinstance(given, str) and given not in ("null", "1") else ""


def _plain(text: str) -> str:
    """A text that every database takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _inner(told: Any) -> Any:
    return _json(told) if isinstance(told, str) else told


def _body_of(told: dict[str, Any]) -> Any:
    body = told.get("body")
    if told.get("isBase64Encoded") is True and isinstance(body, str):
        try:
            body = base64.b64decode(body, validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidInput("the request that the API gateway passed on holds a file and no notification") from None
    if body is None:
        raise InvalidInput("the request that the API gateway passed on has no body")
    return _inner(body)


def _below(folder: Address, said: str) -> str | None:
    """The key of a file that is told by a URL of its server, or None if it is not in the folder."""
    scheme, _, rest = said.partition("://")
    if scheme not in ("davs", "https", "dav", "http", "webdavs", "webdav"):
        return None
    try:
        address = parsed(f"{'webdavs' if folder.root.startswith('webdavs') else 'webdav'}://{rest}")
    except InvalidInput:
        return None
    return address.key if relative(folder.url, address.root, address.key) is not None else None

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
from typing import Any

import httpx
import pytest

from tests.volvox.events.recording import Inbox, listening
from tests.volvox.places.proxy import FAULTS, Proxy
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.events import Sender, webhooks
from volvox.events.senders import hashed

TOKEN = "volvox_a-token"
SENDER = Sender("minio", places=("s3://bucket",), topics=("arn:t",), token=hashed(TOKEN), secret="a-key")
BODY = json.dumps(
    {"Records": [{"eventSource": "minio:s3", "s3": {"bucket": {"name": "bucket"}, "object": {"key": "in%2Fa+b"}}}]}
).encode()
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def _post(
    inbox: Inbox, path: str = "/events/", body: Any = BODY, headers: Any = None, sender: Sender = SENDER, **more: Any
) -> httpx.Response:
    app = webhooks.create(inbox.record, lambda: [Sender("other", token=hashed("volvox_other")), sender], **more)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=body, headers=headers or {})

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/events/", BEARER),
        ("/events", {"Authorization": TOKEN}),  # as MinIO sends an `auth_token` that has no word before it
        ("/events/", {"Authorization": "bearer  " + TOKEN}),
        ("/events/", {"Authorization": httpx.BasicAuth("minio", TOKEN)._auth_header}),
        ("/events/", {"Authorization": httpx.BasicAuth("", TOKEN)._auth_header}),
        (f"/events/{TOKEN}", {}),
        ("/events/", {"X-Hub-Signature-256": "sha256=" + hmac.new(b"a-key", BODY, hashlib.sha256).hexdigest()}),
    ],
)
def test_a_sender_that_shows_its_secret_is_heard(path: str, headers: dict[str, str]) -> None:
    inbox = Inbox()
    answer = _post(inbox, path, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"recorded": 1})
    (found,) = inbox.arrivals
    assert (found.place, found.key, found.source, found.function) == ("s3://bucket", "in/a b", "webhook", "")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/events/", {}),
        ("/events/", {"Authorization": "Bearer volvox_wrong"}),
        ("/events/", {"Authorization": "Bearer "}),
        ("/events/", {"Authorization": "Basic !!!"}),
        ("/events/", {"Authorization": httpx.BasicAuth("other", TOKEN)._auth_header}),
        ("/events/volvox_wrong", BEARER),
        ("/events/", {"X-Hub-Signature-256": "sha256=00"}),
        ("/events/", [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")]),
    ],
)
def test_nobody_else_is(path: str, headers: Any) -> None:
    inbox = Inbox()
    answer = _post(inbox, path, headers=headers)
    assert answer.status_code == 401
    assert "Basic" in answer.headers["www-authenticate"]
    assert not inbox.calls


def test_arrivals_are_for_the_function_in_the_path_unless_the_sender_is_bound_to_another() -> None:
    inbox = Inbox()
    assert _post(inbox, "/events/plants", headers=BEARER).status_code == 200
    assert inbox.arrivals[0].function == "plants"
    bound = Sender("minio", "animals", token=hashed(TOKEN))
    answer = _post(inbox, "/events/plants", headers=BEARER, sender=bound)
    assert (answer.status_code, "may not speak to the function 'plants'" in answer.text) == (403, True)
    _post(inbox, headers=BEARER, sender=bound)
    assert inbox.arrivals[-1].function == "animals"


def test_it_is_answered_only_when_the_inbox_has_it() -> None:
    inbox = Inbox()
    inbox.failures = [Unavailable("the database is locked"), NotFound("there is no function 'x'"), InvalidInput("no")]
    answer = _post(inbox, headers=BEARER)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "the database is locked"}
    assert _post(inbox, headers=BEARER).status_code == 404
    assert _post(inbox, headers=BEARER).status_code == 422
    assert _post(inbox, headers=BEARER).status_code == 200
    assert len(inbox.arrivals) == 1


def test_what_is_too_large_or_in_no_form_is_refused() -> None:
    inbox = Inbox()
    assert _post(inbox, body=b"x" * 101, headers=BEARER, most_bytes=100).status_code == 413
    answer = _post(inbox, body=b'{"a": 1}', headers=BEARER)
    assert (answer.status_code, "in no known form" in answer.text) == (422, True)
    assert _post(inbox, body=b'{"Event": "s3:TestEvent"}', headers=BEARER).json() == {"recorded": 0}
    assert not inbox.calls


def test_a_subscription_is_confirmed_by_opening_its_address() -> None:
    address = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription"
    body = json.dumps({"Type": "SubscriptionConfirmation", "TopicArn": "arn:t", "SubscribeURL": address})
    opened: list[str] = []
    answer = _post(Inbox(), f"/events/{TOKEN}", body, confirm=opened.append)
    assert (answer.status_code, opened) == (200, [address])
    strange = body.replace("arn:t", "arn:strange")
    assert _post(Inbox(), f"/events/{TOKEN}", strange, confirm=opened.append).status_code == 422

    def fails(address: str) -> None:
        raise Unavailable("the subscription could not be confirmed")

    assert _post(Inbox(), f"/events/{TOKEN}", body, confirm=fails).status_code == 503


def test_a_token_in_the_path_stands_in_no_log() -> None:
    seen: list[str] = []
    app = webhooks.create(Inbox().record, lambda: [SENDER])

    async def outer(scope, receive, send) -> None:
        await app(scope, receive, send)
        seen.append(scope["path"])

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://test") as client:
            await client.post(f"/events/{TOKEN}", content=BODY)
            await client.post("/events/volvox_wrong", content=BODY)

    asyncio.run(ask())
    assert seen == ["/events/...", "/events/..."]


def test_a_body_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_READ_SECONDS", 0.1)

    async def slowly():
        yield b"{"
        await asyncio.sleep(30)

    assert _post(Inbox(), body=slowly(), headers=BEARER).status_code == 503


def test_whatever_befalls_a_notification_it_is_kept_when_its_sender_believes_so() -> None:
    inbox = Inbox()
    app = webhooks.create(inbox.record, lambda: [SENDER])
    believed: list[str] = []
    with listening(app) as url, contextlib.closing(Proxy(url)) as proxy, httpx.Client(timeout=0.5) as client:
        for number, fault in enumerate(FAULTS):
            key = f"in/{number}"
            proxy.faults[:] = [fault]
            for _ in range(5):
                try:
                    body = BODY.replace(b"in%2Fa+b", key.encode())
                    answer = client.post(f"{proxy.url}/events/", content=body, headers=BEARER)
                except httpx.HTTPError:
                    continue
                if answer.status_code == 200:
                    believed.append(key)
                    break
    assert believed == [f"in/{number}" for number in range(len(FAULTS))]
    assert set(inbox.keys) == set(believed)
    assert len({(one.place, one.key, one.version) for one in inbox.arrivals}) == len(believed)


def test_half_a_notification_is_none() -> None:
    inbox = Inbox()
    with listening(webhooks.create(inbox.record, lambda: [SENDER])) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /events/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
            connection.sendall(head.encode() + BODY[:50])
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                connection.recv(1000)
        assert httpx.post(f"{url}/events/{TOKEN}", content=BODY).status_code == 200
    assert inbox.keys == ["in/a b"]

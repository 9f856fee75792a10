"""Who is answered, by a server with a guard."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.volvox.serving.issuing import AUDIENCE, ISSUER, Issuer
from tests.volvox.serving.running_server import RunningServer
from volvox.errors import InvalidInput
from volvox.serving import tokens
from volvox.serving.app import create_app
from volvox.serving.guard import Guard, GuardSettings
from volvox.serving.oidc import Provider

ROOT = Path(__file__).parents[3]
PREDICT = "/v2/models/tiny/predict/"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningServer]]:
    """Start a server with these settings, and model `tiny`."""
    running = []

    def start(**settings: Any) -> RunningServer:
        made = RunningServer(tmp_path_factory.mktemp("guarded"))
        settings = {name: str(value) for name, value in settings.items()}
        made.command = [sys.executable, "-m", "tests.volvox.serving.guarded_server", str(made.home)]
        made.command.append(json.dumps(settings))
        made.environment["PYTHONPATH"] = os.pathsep.join([str(made.site), str(ROOT)])
        made.start()
        running.append(made)
        assert made.deploy("1").status_code == 201  # /admin/ asks for its own token
        return made

    yield start
    for made in running:
        made.end()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens"


@pytest.fixture(scope="module")
def alice(file: Path) -> str:
    return tokens.add(file, "alice")


@pytest.fixture(scope="module")
def server(guarded: Callable[..., RunningServer], file: Path, alice: str) -> RunningServer:
    return guarded(tokens=file)


def post(server: RunningServer, headers: dict[str, str] | None = None, path: str = PREDICT) -> httpx.Response:
    return server.client.post(path, files={"image": b"123456"}, headers=headers)


@pytest.mark.parametrize("path", [PREDICT, "/v2/models/%74iny/predict/"])  # the short way, and the other
def test_a_holder_of_a_token_is_answered_and_nobody_else(server: RunningServer, alice: str, path: str) -> None:
    assert post(server, bearer(alice), path).status_code == 200
    refused = post(server, None, path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="volvox"'
    assert "Authorization: Bearer TOKEN" in refused.text
    wrong = post(server, bearer(alice[:-1] + "!"), path)
    assert wrong.status_code == 401
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    assert server.uploads() == []


@pytest.mark.parametrize("value", ["", "Bearer", "Basic YTpi", "Token {}", "{}", "Bearer {} {}", "Bearer\t{}"])
def test_a_header_that_is_not_a_bearer_token_is_refused(server: RunningServer, alice: str, value: str) -> None:
    assert post(server, {"authorization": value.format(alice, alice)}).status_code == 401


def test_the_scheme_may_be_in_any_case_but_be_there_once(server: RunningServer, alice: str) -> None:
    assert post(server, {"authorization": f"bearer {alice}"}).status_code == 200
    twice = [("authorization", f"Bearer {alice}"), ("authorization", "Bearer other")]
    assert server.client.post(PREDICT, files={"image": b"1"}, headers=twice).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v2/models/", "/metrics", "/openapi.json", "/docs", "/oip/v2", "/nowhere", "/health/", "/health/live/x",
        "/health/../metrics", "//metrics", "/models/tiny/",
    ],
)  # fmt: skip
def test_everything_else_asks_for_a_token(server: RunningServer, alice: str, path: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "x-request-id" in answer.headers
        assert client.get(path, headers=bearer(alice)).status_code != 401


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/oip/v2/health/live", "/oip/v2/health/ready"])
def test_health_stays_open(server: RunningServer, path: str) -> None:
    assert server.client.get(path).status_code == 200


def test_deploying_asks_for_its_own_token(server: RunningServer, alice: str) -> None:
    assert server.client.get("/admin/models", headers=bearer(alice)).status_code == 401
    assert server.admin.get("/admin/models").status_code == 200


def test_the_open_inference_protocol_words_it_its_own_way(server: RunningServer) -> None:
    answer = server.client.post("/oip/v2/models/tiny/infer", json={})
    assert answer.status_code == 401
    assert "Bearer TOKEN" in answer.json()["error"]


def test_a_token_that_is_removed_is_refused_within_seconds(server: RunningServer, file: Path) -> None:
    bob = tokens.add(file, "bob")
    end = time.monotonic() + 10
    while post(server, bearer(bob)).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    tokens.remove(file, "bob")
    while post(server, bearer(bob)).status_code != 401:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_document_says_that_a_token_is_needed(server: RunningServer, alice: str) -> None:
    told = server.client.get("/openapi.json", headers=bearer(alice)).json()
    assert told["security"] == [{"token": []}]
    assert told["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}


# -- without a server ------------------------------------------------------------------------------------------------


def headers(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {token}".encode())]


def test_a_token_is_judged_at_once_when_its_keys_are_known_and_waits_for_them_once() -> None:
    import asyncio

    issuer = Issuer()
    guard = Guard(GuardSettings(oidc_issuer=ISSUER, oidc_audience=AUDIENCE))
    guard._provider = Provider(ISSUER, AUDIENCE, issuer.transport)
    given = headers(issuer.token())
    assert guard.refusal(given).status == 503
    assert asyncio.run(guard.checked(given)) is None
    assert guard.refusal(given) is None
    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("settings", "claims", "status"),
    [
        ({"oidc_scope": "ask"}, {"scope": "openid ask"}, None),
        ({"oidc_scope": "ask"}, {"scp": ["ask"]}, None),
        ({"oidc_scope": "ask"}, {"scope": "asking"}, 403),
        ({"oidc_scope": "ask"}, {}, 403),
        ({"oidc_group": "urn:vo"}, {"eduperson_entitlement": ["urn:vo"]}, None),
        ({"oidc_group": "admins"}, {"groups": ["users", "admins"]}, None),
        ({"oidc_group": "admins"}, {"groups": ["users"]}, 403),
        ({"oidc_group": "admins"}, {"groups": {"admins": 1}}, 403),
    ],
)
def test_a_scope_or_a_group_may_be_demanded(settings: dict, claims: dict, status: int | None, signer: Issuer) -> None:
    import asyncio

    guard = Guard(GuardSettings(oidc_issuer=ISSUER, oidc_audience=AUDIENCE, **settings))
    guard._provider = Provider(ISSUER, AUDIENCE, signer.transport)
    told = asyncio.run(guard.checked(headers(signer.token(**claims))))
    assert (told and told.status) == status
    if told:
        assert 'error="insufficient_scope"' in told.headers["WWW-Authenticate"]


@pytest.fixture(scope="module")
def signer() -> Issuer:
    return Issuer()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"oidc_issuer": ISSUER}, "give an audience"),
        ({"oidc_audience": "a"}, "without an issuer"),
        ({"oidc_issuer": "http://far.test", "oidc_audience": "a"}, "https://"),
        ({"tokens": Path("/nowhere/tokens")}, "volvox tokens add"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(settings: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        create_app(tmp_path, guard=GuardSettings(**settings))


def test_metrics_may_be_open(file: Path, alice: str) -> None:
    assert Guard(GuardSettings(tokens=file, open_metrics=True)).is_open("/metrics")
    assert not Guard(GuardSettings(tokens=file)).is_open("/metrics")


def test_no_settings_are_no_guard(tmp_path: Path) -> None:
    assert not GuardSettings()
    assert create_app(tmp_path, guard=GuardSettings()).state.services.guard is None


def test_a_message_of_a_stranger_cannot_break_the_header(signer: Issuer) -> None:
    import asyncio

    guard = Guard(GuardSettings(oidc_issuer=ISSUER, oidc_audience=AUDIENCE))
    guard._provider = Provider(ISSUER, AUDIENCE, signer.transport)
    told = asyncio.run(guard.checked(headers(signer.token(iss='x"\r\nset-cookie: a=b, ä'))))
    assert told.status == 401
    challenge = told.headers["WWW-Authenticate"]
    assert challenge.isascii()
    assert challenge.isprintable()
    assert challenge.count('"') == 6


# -- with a real provider --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> dict[str, str]:
    """What the OpenID Connect provider of VOLVOX_ENGINES asks to be set."""
    engines = os.environ.get("VOLVOX_ENGINES")
    if not engines:
        pytest.skip("VOLVOX_ENGINES is not set: no OpenID Connect provider here")
    told = subprocess.run([f"{engines}/up", "oidc"], capture_output=True, text=True, timeout=300, check=True).stdout
    return dict(re.findall(r"\b(OIDC_\w+)=(\S+)", told))


@pytest.mark.oidc
def test_tokens_of_a_real_provider_are_accepted(real: dict[str, str], guarded, file: Path, alice: str) -> None:
    issuer = real["OIDC_ISSUER"]
    endpoint = httpx.get(f"{issuer}/.well-known/openid-configuration").json()["token_endpoint"]

    def token(**asked: str) -> str:
        answer = httpx.post(
            endpoint,
            auth=("service", "servicesecret-servicesecret-0000"),
            data={"grant_type": "client_credentials", **asked},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    good, less = token(resource="urn:api", scope="profile groups"), token(resource="urn:api", scope="profile")
    server = guarded(oidc_issuer=issuer, oidc_audience="urn:api", oidc_scope="groups", tokens=file)
    for path in (PREDICT, "/v2/models/%74iny/predict/", PREDICT):
        assert post(server, bearer(good), path).status_code == 200
        assert post(server, bearer(alice), path).status_code == 200
        refused = post(server, bearer(less), path)
        assert (refused.status_code, "scope 'groups'" in refused.text) == (403, True)
        changed = good[:-8] + ("A" * 8 if good[-8:] != "A" * 8 else "B" * 8)
        assert post(server, bearer(changed), path).status_code == 401
    other = guarded(oidc_issuer=issuer, oidc_audience="urn:other")
    refused = post(other, bearer(good))
    assert (refused.status_code, "not for 'urn:other'" in refused.text) == (401, True)

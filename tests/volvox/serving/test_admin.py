"""Who may deploy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.volvox.serving.running_server import TOKEN, RunningServer
from volvox.errors import InvalidInput, Unavailable
from volvox.serving.admin import read_token
from volvox.serving.app import create_app


def _home(folder: Path, mode: int = 0o600) -> Path:
    (folder / "stack").mkdir(parents=True)
    (folder / "stack" / "token").write_text(f"{TOKEN}\n")
    (folder / "stack" / "token").chmod(mode)
    return folder


def _ask(home: Path, method: str, path: str, headers: dict, host: str = "127.0.0.1") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(home), client=(host, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", "/tiny"), ("DELETE", "/tiny")])
def test_without_the_token_nothing_is_listed_deployed_or_removed(
    tmp_path: Path, given: str | None, method: str, path: str
) -> None:
    headers = {"Authorization": given.encode()} if given else {}
    answer = _ask(_home(tmp_path), method, f"/admin/models{path}", headers)
    assert answer.status_code == 401
    assert TOKEN not in answer.text


def test_with_the_token_models_are_listed(tmp_path: Path) -> None:
    answer = _ask(_home(tmp_path), "GET", "/admin/models", {"Authorization": f"Bearer {TOKEN}"})
    assert answer.json() == {"models": []}


@pytest.mark.parametrize("host", ["10.0.0.7", "2001:db8::1", "testclient"])
def test_another_machine_may_not_deploy_even_with_the_token(tmp_path: Path, host: str) -> None:
    answer = _ask(_home(tmp_path), "GET", "/admin/models", {"Authorization": f"Bearer {TOKEN}"}, host)
    assert answer.status_code == 403


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="chmod 600"):
        read_token(_home(tmp_path, 0o644))


def test_without_a_token_the_message_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="volvox up"):
        read_token(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"module": "tiny"}, "model_version"),
        ({"module": "tiny", "model_version": "../../etc"}, "model_version"),
        ({"module": "tiny", "model_version": "a" * 64, "smoke": ["/no/such/image.png"]}, "/no/such/image.png"),
        ({"module": "tiny", "model_version": "a" * 64, "weights": "/no/such/folder"}, "/no/such/folder"),
        ({"module": "nobody-has-it", "model_version": "a" * 64}, "no model module 'nobody-has-it' is installed"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_and_leaves_nothing(
    server: RunningServer, wanted: dict, reason: str
) -> None:
    answer = server.admin.put("/admin/models/tiny", json=wanted)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]
    assert server.versions() == []


@pytest.mark.parametrize("body", ["", "{", "[]", "1"])
def test_a_body_that_is_no_object_is_refused(shared: RunningServer, body: str) -> None:
    assert shared.admin.put("/admin/models/tiny", content=body).status_code == 400


@pytest.mark.parametrize("name", ["..", "%2e%2e", "uploads%2Fx", "a b", ".hidden", "x" * 101])
def test_a_name_that_is_no_name_is_refused(shared: RunningServer, name: str) -> None:
    request = httpx.Request("PUT", f"{shared.url}/admin/models/{name}", headers=shared.admin.headers, json={})
    assert shared.admin.send(request).status_code in (404, 405, 422)

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from blocks.store import ObjectStore
from volvox.errors import InvalidInput, NotFound, Unavailable

SAVED = {
    "address": "s3://bucket/prefix",
    "endpoint": "http://127.0.0.1:9",
    "region": "eu-west-1",
    "access_key_id": "a-key",
    "secret_access_key": "very-secret",
    "session_token": "a-token",
}


class Prefect(ThreadingHTTPServer):
    """As much of Prefect's server as gives a block."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.requests: list[str] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_port}/api"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Answers(BaseHTTPRequestHandler):
    server: Prefect

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        known = "/block_types/slug/volvox-object-store/block_documents/name/mine" in self.path
        status = self.server.status if known else 404
        told = {"id": str(uuid.uuid4()), "name": "mine", "data": SAVED, "block_document_references": {}}
        told |= {name: str(uuid.uuid4()) for name in ("block_schema_id", "block_type_id")}
        data = json.dumps(told if status == 200 else {"detail": "very-secret"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def prefect() -> Iterator[Prefect]:
    made = Prefect()
    with temporary_settings({PREFECT_API_URL: made.url}):
        yield made
    made.shutdown()
    made.server_close()


def test_the_local_store_is_that_of_the_home_or_of_the_environment(home, monkeypatch, tmp_path) -> None:
    assert ObjectStore.local().open().address == str(home.root / "store")
    monkeypatch.setenv("VOLVOX_STORE", str(tmp_path / "elsewhere"))
    assert ObjectStore.local().open().address == str(tmp_path / "elsewhere")
    monkeypatch.setenv("VOLVOX_STORE", "s3://bucket/prefix")
    store = ObjectStore.local().open()
    assert (store.address, store.cache) == ("s3://bucket/prefix", home.cache)


def test_a_block_is_read_with_one_request_inside_of_a_loop_and_outside(home, monkeypatch, prefect: Prefect) -> None:
    monkeypatch.setenv("VOLVOX_STORE", "block:mine")

    async def inside() -> ObjectStore:
        return ObjectStore.local()

    for ask in (ObjectStore.local, lambda: asyncio.run(inside())):
        made = ask()
        assert len(prefect.requests) == 1, prefect.requests
        prefect.requests.clear()
        store = made.open()
        assert store.address == "s3://bucket/prefix"
        access = store.bucket.access
        assert (access.endpoint, access.region, access.access_key_id) == ("http://127.0.0.1:9", "eu-west-1", "a-key")
        assert (access.secret_access_key, access.session_token) == ("very-secret", "a-token")
        for shown in (repr(made), str(made), made.model_dump_json(), repr(store), repr(access)):
            assert "very-secret" not in shown and "a-token" not in shown


@pytest.mark.parametrize(
    ("name", "status", "kind", "words"),
    [
        ("other", 200, NotFound, "the Prefect block volvox-object-store/other, which http.* does not have; save it"),
        ("mine", 401, InvalidInput, r"which http.* does not give \(401\)"),
    ],
)
def test_a_block_that_is_not_given_is_told(home, monkeypatch, prefect: Prefect, name, status, kind, words) -> None:
    prefect.status = status
    monkeypatch.setenv("VOLVOX_STORE", f"block:{name}")
    with pytest.raises(kind, match=words) as told:
        ObjectStore.local()
    assert "very-secret" not in str(told.value)


def test_a_prefect_that_does_not_answer_is_unavailable(home, monkeypatch) -> None:
    monkeypatch.setenv("VOLVOX_STORE", "block:mine")
    words = r"Prefect does not answer at http://127.0.0.1:9/api \(ConnectError\)"
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(Unavailable, match=words):
        ObjectStore.local()


def test_no_server_is_started_to_ask_for_a_block(home, monkeypatch) -> None:
    monkeypatch.setenv("VOLVOX_STORE", "block:mine")
    words = "no Prefect server is named; set PREFECT_API_URL"
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(Unavailable, match=words):
        ObjectStore.local()


def test_a_block_that_names_another_is_refused(home) -> None:
    with pytest.raises(InvalidInput, match="another block"):
        ObjectStore(address="block:mine").open()


def test_a_block_that_an_operator_saved_is_the_store_of_a_flow(home, monkeypatch) -> None:
    monkeypatch.setenv("VOLVOX_STORE", "block:mine")

    @flow
    async def asking() -> str:
        return ObjectStore.local().open().bucket.access.secret_access_key

    with prefect_test_harness(server_startup_timeout=120):
        ObjectStore(**SAVED).save("mine")
        assert asyncio.run(asking()) == "very-secret"

"""The block as an operator uses it, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.server import ModelServer
from tests.volvox.serving.modules import ANSWERS, write_weights
from tests.volvox.serving.running_server import serving
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable


@pytest.fixture
def server(home, install_module) -> Iterator[ModelServer]:
    install_module("tiny", ANSWERS)
    install_module("broken", "import a_library_that_nobody_has")
    with serving(home.root):
        yield ModelServer.local(home)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "an image.png"
    path.write_bytes(b"12345")
    return path


def _deploy(server: ModelServer, folder: Path, version: str = "1", module: str = "tiny") -> bool:
    weights = write_weights(folder / f"weights-{version}", version)
    return asyncio.run(
        server.deploy("tiny", version=version, model_version=version * 64, module=module, weights=weights)
    )[1]


def test_a_model_is_deployed_asked_and_removed(server: ModelServer, tmp_path: Path, image: Path) -> None:
    assert _deploy(server, tmp_path)
    answer = asyncio.run(server.predict("tiny", image, arguments={"top": "1"}))
    assert (answer["predictions"]["labels"], answer["predictions"]["name"]) == (["large"], "an image.png")
    assert asyncio.run(server.served())["tiny"]["version"] == "1"
    asyncio.run(server.remove("tiny"))
    assert asyncio.run(server.served()) == {}


@pytest.mark.parametrize(
    ("model", "arguments", "error", "reason"),
    [
        ("nobody", {}, NotFound, "no model 'nobody' is served"),
        ("tiny", {"top": "0"}, InvalidInput, "greater than or equal to 1"),
        ("tiny", {"mode": "raise"}, ModuleFailed, "KeyError: 'no such layer'"),
        ("tiny", {"mode": "die"}, Unavailable, "exit code 3"),
        ("tiny", {"mode": "bytes"}, ModuleFailed, "not JSON"),
    ],
)
def test_what_goes_wrong_is_an_error_of_its_kind(
    server: ModelServer, tmp_path: Path, image: Path, model: str, arguments: dict, error: type[Exception], reason: str
) -> None:
    _deploy(server, tmp_path)
    with pytest.raises(error, match=reason):
        asyncio.run(server.predict(model, image, arguments=arguments))


def test_a_module_that_does_not_start_is_an_error_with_its_trace(server: ModelServer, tmp_path: Path) -> None:
    with pytest.raises(ModuleFailed, match="a_library_that_nobody_has") as failed:
        _deploy(server, tmp_path, module="broken")
    assert "Traceback" in failed.value.trace


def test_the_token_is_asked_for_and_never_shown(server: ModelServer, tmp_path: Path) -> None:
    secret = server.token.get_secret_value()
    assert secret not in repr(server)
    assert secret not in str(server.model_dump())
    with pytest.raises(InvalidInput, match="needs a token"):
        asyncio.run(ModelServer(url=server.url).served())
    with pytest.raises(InvalidInput, match="Authorization") as refused:
        asyncio.run(ModelServer(url=server.url, token="wrong").served())
    assert secret not in str(refused.value)


def test_a_server_that_does_not_run_is_told_with_what_to_do(home, monkeypatch: pytest.MonkeyPatch, image: Path) -> None:
    monkeypatch.delenv("VOLVOX_WEB_URL", raising=False)
    with pytest.raises(Unavailable, match="volvox up"):
        ModelServer.local(home)
    with pytest.raises(Unavailable, match="volvox up"):
        asyncio.run(ModelServer(url="http://127.0.0.1:1").predict("tiny", image))

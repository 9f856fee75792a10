"""The Open Inference Protocol, asked by Triton's own client and by hand."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.volvox.serving.modules import write_modules
from tests.volvox.serving.running_server import RunningServer
from volvox.serving.app import create_app
from volvox.serving.deployed import Deployed
from volvox.serving.limits import Limits
from volvox.serving.services import Services
from volvox.worker.tensors import DATATYPES


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("served"))
    running.start()
    try:
        for name, module in (("tensors", "tiny-tensors"), ("types", "tiny-types"), ("tiny", "tiny")):
            answer = running.deploy("1", name=name, module=module)
            assert answer.status_code == 201, answer.text
        yield running
    finally:
        running.end()


@pytest.fixture
def client(served: RunningServer) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(served.url.removeprefix("http://") + "/oip", concurrency=4)
    yield made
    made.close()


def tensors(rows: Any, words: list[str], binary: bool = True) -> list[triton.InferInput]:
    numbers = triton.InferInput("numbers", [len(words), 3], "FP32")
    numbers.set_data_from_numpy(np.array(rows, np.float32), binary_data=binary)
    texts = triton.InferInput("words", [len(words)], "BYTES")
    texts.set_data_from_numpy(np.array([word.encode() for word in words], object), binary_data=binary)
    return [numbers, texts]


def body(*words: str, **told: Any) -> dict[str, Any]:
    data = [[1, 2, 3]] * len(words)
    return {
        "inputs": [
            {"name": "numbers", "datatype": "FP32", "shape": [len(words), 3], "data": data},
            {"name": "words", "datatype": "BYTES", "shape": [len(words)], "data": list(words)},
        ],
        **told,
    }


def infer(served: RunningServer, *words: str, model: str = "tensors", **told: Any) -> httpx.Response:
    return served.client.post(f"/oip/v2/models/{model}/infer", json=body(*words, **told))


# -- Triton's client -------------------------------------------------------------------------------------------------


def test_a_real_client_finds_the_server_and_the_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tensors")
    assert client.is_model_ready("tensors", "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "volvox"
    told = client.get_model_metadata("tensors", "1")
    assert (told["name"], told["versions"]) == ("tensors", ["1"])
    assert told["inputs"][0] == {"name": "numbers", "datatype": "FP32", "shape": [-1, 3]}
    assert [one["name"] for one in told["outputs"]] == ["sums", "shouted", "rows"]
    index = {one["name"]: one for one in client.get_model_repository_index()}
    assert index["tiny"] == {"name": "tiny", "version": "1", "state": "READY", "reason": ""}


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("received", [True, False])
def test_a_real_client_asks_in_json_and_in_binary(client, sent: bool, received: bool) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=received) for name in ("shouted", "sums")]
    given = tensors([[1, 2, 3], [4, 5, 6]], ["ab", "ä"], sent)
    answer = client.infer("tensors", given, outputs=wanted, request_id="7")
    assert answer.as_numpy("sums").tolist() == [6, 15]
    assert [told if isinstance(told, str) else told.decode() for told in answer.as_numpy("shouted").tolist()] == [
        "AB",
        "ä",
    ]
    assert answer.as_numpy("rows") is None
    told = answer.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("7", "tensors", "1")
    assert ("parameters" in told["outputs"][0]) is received


def test_a_real_client_gets_every_output_in_binary_unless_it_says_otherwise(client) -> None:
    answer = client.infer("tensors", tensors([[1, 2, 3]], ["ab"]))
    assert answer.as_numpy("rows").dtype == np.int64
    assert all("parameters" in one for one in answer.get_response()["outputs"])


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
def test_a_real_client_may_pack_its_request(client, packed: str) -> None:
    answer = client.infer("tensors", tensors([[1, 2, 3]], ["ab"]), request_compression_algorithm=packed)
    assert answer.as_numpy("sums").tolist() == [6]


@pytest.mark.parametrize(
    ("datatype", "binary"),  # Triton's client sends FP16 in binary only; test_tensors.py has it in JSON
    [(name, binary) for name in DATATYPES for binary in (True, False) if binary or name != "FP16"],
)
def test_every_datatype_goes_there_and_back(client, datatype: str, binary: bool) -> None:
    given, values = [], None
    for name, dtype in DATATYPES.items():
        one = triton.InferInput(name.lower(), [2, 2], name)
        array = np.array([[b"a", b""], ["ä".encode(), b"d"]] if name == "BYTES" else [[0, 1], [1, 0]]).astype(dtype)
        one.set_data_from_numpy(array, binary_data=binary or name == "FP16")
        given.append(one)
        values = array if name == datatype else values
    wanted = [triton.InferRequestedOutput(datatype.lower(), binary_data=binary)]
    found = client.infer("types", given, outputs=wanted).as_numpy(datatype.lower())
    if datatype == "BYTES":
        found = np.array([one if isinstance(one, bytes) else one.encode() for one in found.ravel()], object)
        assert found.tolist() == values.ravel().tolist()
    else:
        assert found.dtype == values.dtype
        assert found.tolist() == values.tolist()


def test_a_real_client_is_told_what_is_wrong(client) -> None:
    with pytest.raises(triton.InferenceServerException, match="exactly the inputs numbers, words"):
        client.infer("tensors", tensors([[1, 2, 3]], ["ab"])[:1])
    with pytest.raises(triton.InferenceServerException, match="'nothing' is served here"):
        client.infer("nothing", tensors([[1, 2, 3]], ["ab"]))


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_requests_that_wait_together_are_computed_in_one_call(served: RunningServer) -> None:
    with ThreadPoolExecutor(9) as pool:
        slow = pool.submit(infer, served, "slow")
        time.sleep(0.15)
        asked = [pool.submit(infer, served, f"w{number}", "x") for number in range(8)]
        rows = [[one["data"] for one in told.result().json()["outputs"]] for told in asked]
        assert slow.result().status_code == 200
    assert [told[1] for told in rows] == [[f"W{number}", "X"] for number in range(8)]
    assert max(told[2][0] for told in rows) >= 8  # each tells how many rows were computed with its own


def test_one_bad_request_does_not_harm_those_that_are_computed_with_it(served: RunningServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(infer, served, "slow")
        time.sleep(0.15)
        asked = [pool.submit(infer, served, word) for word in ("a", "raise", "refuse")]
        assert slow.result().status_code == 200
        good, raised, refused = (told.result() for told in asked)
    assert good.json()["outputs"][1]["data"] == ["A"]
    assert (raised.status_code, raised.json()) == (500, {"error": "KeyError: 'no such layer'"})
    assert (refused.status_code, json.loads(refused.json()["error"])) == (422, {"words": ["That word is not taken."]})


def test_predictions_and_tensors_may_wait_for_the_same_worker(served: RunningServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        slow = pool.submit(infer, served, "slow")
        time.sleep(0.1)
        asked = [pool.submit(infer, served, "a") for _ in range(3)]
        predicted = [pool.submit(served.client.post, "/v2/models/tensors/predict/") for _ in range(3)]
        assert slow.result().status_code == 200
        assert all(told.result().json()["outputs"][1]["data"] == ["A"] for told in asked)
        assert all(told.result().json()["predictions"] == {"given": []} for told in predicted)


def test_a_worker_that_dies_is_a_503_and_the_next_request_is_answered(served: RunningServer) -> None:
    answer = infer(served, "die")
    assert answer.status_code == 503
    assert "exit code 3" in answer.json()["error"]
    assert "retry-after" in answer.headers
    assert infer(served, "a").status_code == 200


def test_only_the_outputs_that_were_asked_for_come_back_with_the_id(served: RunningServer) -> None:
    told = infer(served, "a", id="x/1", outputs=[{"name": "sums"}]).json()
    assert told == {
        "model_name": "tensors",
        "model_version": "1",
        "id": "x/1",
        "outputs": [{"name": "sums", "datatype": "FP32", "shape": [1], "data": [6.0]}],
    }


def test_nothing_of_no_rows_is_answered(served: RunningServer) -> None:
    assert infer(served).json()["outputs"][0] == {"name": "sums", "datatype": "FP32", "shape": [0], "data": []}


def test_a_body_without_json_is_refused_where_there_are_several_inputs(served: RunningServer) -> None:
    url = "/oip/v2/models/tensors/infer"
    answer = served.client.post(url, content=b"1234", headers={"Inference-Header-Content-Length": "0"})
    assert (answer.status_code, "several inputs" in answer.json()["error"]) == (400, True)


def test_values_that_json_cannot_hold_are_told_as_such_and_go_in_binary(served: RunningServer) -> None:
    inputs = []
    for name in DATATYPES:
        data = ["a"] * 4 if name == "BYTES" else [True] * 4 if name == "BOOL" else [1] * 4
        inputs.append({"name": name.lower(), "datatype": name, "shape": [2, 2], "data": data})
    asked = {"inputs": inputs, "outputs": [{"name": "fp32"}], "parameters": {"infinite": True}}
    answer = served.client.post("/oip/v2/models/types/infer", json=asked)
    assert (answer.status_code, "as binary data" in answer.json()["error"]) == (500, True)
    asked["parameters"]["binary_data_output"] = True
    answer = served.client.post("/oip/v2/models/types/infer", json=asked)
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<4f", answer.content[length:])[0] == float("inf")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/oip/v2/models/nothing", 404),
        ("GET", "/oip/v2/models/tensors/versions/9", 404),
        ("GET", "/oip/v2/models/nothing/ready", 404),
        ("POST", "/oip/v2/models/tensors/versions/9/infer", 404),
        ("POST", "/oip/v2/models/tiny/infer", 400),
        ("GET", "/oip/v2/nowhere/else", 404),
        ("GET", "/oip/v2/models/tensors/infer", 405),
        ("PUT", "/oip/v2/repository/index", 405),
        ("DELETE", "/oip/v2", 405),
    ],
)
def test_every_error_is_an_object_with_a_sentence(served: RunningServer, method: str, path: str, status: int) -> None:
    answer = served.client.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert len(answer.json()["error"]) > 10
    assert ("allow" in answer.headers) is (status == 405)


def test_a_model_without_tensors_is_listed_and_says_where_it_is_asked(served: RunningServer) -> None:
    told = served.client.get("/oip/v2/models/tiny").json()
    assert (told["inputs"], told["outputs"]) == ([], [])
    answer = served.client.post("/oip/v2/models/tiny/infer", json=body("a"))
    assert "/v2/models/tiny/predict/" in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (b"x", "br", 400),
        (b"not packed", "gzip", 400),
        (gzip.compress(b"{}")[:-4], "gzip", 400),
        (gzip.compress(b" " * (65 << 20)), "gzip", 413),
        (zlib.compress(b"[]"), "deflate", 400),
    ],
    # gzip writes the time of day: names made of the bytes would differ between the processes that collect them.
    ids=["unknown", "not-packed", "cut-off", "too-large", "not-json-object"],
)
def test_a_packed_body_that_cannot_be_unpacked_or_is_too_large_is_refused(
    served: RunningServer, content: bytes, encoding: str, status: int
) -> None:
    answer = served.client.post("/oip/v2/models/tensors/infer", content=content, headers={"content-encoding": encoding})
    assert answer.status_code == status
    assert "error" in answer.json()


def test_a_body_that_is_too_large_is_refused_before_it_is_read(served: RunningServer) -> None:
    asking = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=10)
    asking.putrequest("POST", "/oip/v2/models/tensors/infer")
    asking.putheader("Content-Length", str(65 << 20))
    asking.endheaders()
    assert asking.getresponse().status == 413
    asking.close()
    answer = served.client.post("/oip/v2/models/tensors/infer", content=b" " * ((64 << 20) + 1))
    assert (answer.status_code, answer.json()["error"]) == (413, f"Maximum request body size {64 << 20} exceeded.")


def test_the_index_leaves_out_what_is_not_ready_where_asked(served: RunningServer) -> None:
    url = "/oip/v2/repository/index"
    assert len(served.client.post(url, json={"ready": True}).json()) == 3
    assert served.client.post(url).json() == served.client.post(url, json={}).json()
    assert served.client.post(url, content=b"[").status_code == 400


def test_too_many_requests_are_answered_429_with_when_to_come_back(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_modules(tmp_path / "site")))

    async def ask() -> list[httpx.Response]:
        limits = Limits(queue=1, batch=1)
        services = Services(tmp_path / "serving", limits)
        app = create_app(tmp_path, limits, services)
        services.open()
        model = services.serve(Deployed(name="tensors", module="tiny-tensors", model_version="a" * 64), None)
        await model.start()
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                asked = [client.post("/oip/v2/models/tensors/infer", json=body("slow")) for _ in range(6)]
                return await asyncio.gather(*asked)
        finally:
            await services.close()

    answers = asyncio.run(ask())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert "wait for model 'tensors' already" in refused.json()["error"]
    assert "model_version" not in next(answer for answer in answers if answer.status_code == 200).json()


def test_the_example_in_the_docs_works(served: RunningServer) -> None:
    page = (Path(__file__).parents[3] / "docs" / "oip.md").read_text()
    module, asking = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (served.site / "example.py").write_text(module)
    info = served.site / "example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[deepaas.v2.model]\nexample = example\n")
    answer = served.deploy("1", name="example", module="example")
    assert answer.status_code == 201, answer.text
    address = served.url.removeprefix("http://")
    exec(compile(asking.replace("127.0.0.1:5000", address), "docs/oip.md", "exec"), {})
    assert served.admin.delete("/admin/models/example").status_code == 200


def test_the_document_tells_what_can_be_asked(served: RunningServer) -> None:
    paths = served.client.get("/openapi.json").json()["paths"]
    assert "/oip/v2/models/tensors/infer" in paths
    assert "/oip/v2/models/tiny/infer" not in paths

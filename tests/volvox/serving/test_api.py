"""The DEEPaaS V2 wire, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.volvox.serving.running_server import RunningServer, gone


def test_a_model_answers_an_uploaded_file(shared: RunningServer) -> None:
    answer = shared.ask()
    assert answer.status_code == 200
    assert answer.json()["status"] == "OK"
    said = answer.json()["predictions"]
    assert (said["bytes"], said["name"], said["type"]) == (6, "a flower.png", "image/png")
    assert answer.headers["server-timing"].startswith("predict;dur=")


def test_the_models_are_listed_with_what_they_say_of_themselves(shared: RunningServer) -> None:
    listed = {told["name"]: told for told in shared.client.get("/v2/models/").json()["models"]}
    assert listed["tiny"]["links"] == [{"rel": "self", "href": "/v2/models/tiny"}]
    assert listed["tiny"]["summary"] == "Says how large a file is."
    assert listed["plain"]["id"] == "0"
    assert "tiny-plain" in listed["plain"]["description"]
    assert shared.client.get("/v2/models/tiny/").json() == listed["tiny"]


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/models", "/v2/models/tiny", "/v2/models/tiny/predict", "/models", "/models/tiny", "/catalogue"]
)
def test_a_missing_last_slash_is_answered_308(shared: RunningServer, path: str) -> None:
    answer = shared.client.request("POST" if path.endswith("predict") else "GET", f"{path}?top=1")
    assert answer.status_code == 308
    assert answer.headers["location"].removesuffix("?top=1") == f"{path}/"


def test_the_query_wins_over_the_form(shared: RunningServer) -> None:
    files = {"image": ("a.png", b"1", "image/png")}
    answer = shared.client.post("/v2/models/tiny/predict/?top=1", files=files, data={"top": "2"})
    assert answer.json()["predictions"]["labels"] == ["large"]


def test_a_list_takes_every_repetition_of_its_key(shared: RunningServer) -> None:
    assert shared.ask(labels=["a", "b"], top="4").json()["predictions"]["labels"] == ["large", "small", "a", "b"]


def test_arguments_that_nobody_declared_are_ignored(shared: RunningServer) -> None:
    assert shared.client.post("/v2/models/plain/predict/?x=1").json() == {"status": "OK", "predictions": {"given": []}}


def test_refused_arguments_are_answered_422_with_all_messages(shared: RunningServer) -> None:
    answer = shared.client.post("/v2/models/tiny/predict/?top=x")
    assert answer.status_code == 422
    assert answer.json() == {"image": ["Missing data for required field."], "top": ["Not a valid integer."]}


@pytest.mark.parametrize("body", ["{", "[1,", "nul"])
def test_a_body_that_is_not_json_is_answered_400(shared: RunningServer, body: str) -> None:
    answer = shared.client.post(
        "/v2/models/strict/predict/", content=body, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()) == (400, {"json": ["Invalid JSON body."]})


@pytest.mark.parametrize("body", ["{}", "[1, 2]", "", '{"fit": "yes"}', '{"other": null}'])
def test_a_json_body_is_taken_and_a_list_is_ignored(shared: RunningServer, body: str) -> None:
    answer = shared.client.post(
        "/v2/models/strict/predict/", content=body, headers={"content-type": "application/json"}
    )
    assert answer.json() == {"status": "OK", "predictions": {"a": 1}}


def test_an_urlencoded_form_is_taken(shared: RunningServer) -> None:
    answer = shared.client.post("/v2/models/strict/predict/", data={"fit": "maybe"})
    assert (answer.status_code, answer.json()) == (422, {"fit": ["Not a valid boolean."]})


def test_with_a_schema_the_body_is_what_the_module_returned_and_a_mismatch_is_500(shared: RunningServer) -> None:
    assert shared.client.post("/v2/models/strict/predict/").json() == {"status": "OK", "predictions": {"a": 1}}
    refused = shared.client.post("/v2/models/strict/predict/?fit=no")
    assert refused.status_code == 500
    assert "schema" in refused.text


def test_an_exception_of_the_module_is_a_500_that_names_it(shared: RunningServer) -> None:
    answer = shared.ask(mode="raise")
    assert (answer.status_code, answer.text) == (500, "500: KeyError: 'no such layer'")


def test_a_result_that_json_cannot_hold_is_a_500(shared: RunningServer) -> None:
    assert shared.ask(mode="nan").status_code == 500


def test_bytes_come_back_as_they_are(shared: RunningServer) -> None:
    answer = shared.ask(mode="bytes")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89raw", "application/octet-stream")


def test_an_unknown_model_is_a_404_that_names_those_there_are(shared: RunningServer) -> None:
    answer = shared.client.get("/v2/models/huge/")
    assert answer.status_code == 404
    assert "served: plain, strict, tiny" in answer.text


def test_a_wrong_method_is_a_405_that_names_the_right_one(shared: RunningServer) -> None:
    answer = shared.client.get("/v2/models/tiny/predict/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_worker_that_dies_is_a_503_with_the_reason_and_the_next_request_is_answered(shared: RunningServer) -> None:
    before = shared.ask().json()["predictions"]["pid"]
    answer = shared.ask(mode="die")
    assert answer.status_code == 503
    assert "exit code 3" in answer.text
    assert "retry-after" in answer.headers
    after = shared.ask()
    assert after.status_code == 200
    assert after.json()["predictions"]["pid"] != before


def test_a_worker_that_is_killed_while_idle_is_replaced(shared: RunningServer) -> None:
    pid = shared.ask().json()["predictions"]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    time.sleep(0.1)  # the server is told by the kernel
    assert shared.ask().json()["predictions"]["pid"] != pid


def test_a_module_that_removes_its_file_does_no_harm(shared: RunningServer) -> None:
    assert shared.ask(mode="remove").status_code == 200
    assert shared.image.is_file()


@pytest.mark.parametrize("mode", ["answer", "raise", "die", "remove", "nan"])
def test_no_upload_is_left_behind(shared: RunningServer, mode: str) -> None:
    shared.ask(mode=mode)
    shared.client.post("/v2/models/tiny/predict/", files={"image": b"1"}, params={"top": "99"})
    assert shared.uploads() == []


def test_every_answer_forbids_what_comes_from_elsewhere(shared: RunningServer) -> None:
    for path in ("/", "/v2/models/", "/models/tiny/", "/docs", "/nowhere"):
        policy = shared.client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


def test_programs_get_the_versions_at_the_root(shared: RunningServer) -> None:
    assert shared.client.get("/").json()["versions"][0]["id"] == "v2"


def test_the_metadata_is_plain_json(shared: RunningServer) -> None:
    assert json.loads(shared.client.get("/v2/models/strict/").content)["name"] == "strict"

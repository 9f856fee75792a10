"""Inference requests between HTTP and raw bytes."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest

from volvox.errors import ModuleFailed
from volvox.serving.tensors import BadRequest, Wanted, read, write
from volvox.worker.tensors import DATATYPES, joined

DECLARED = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}, {"name": "z", "datatype": "BYTES", "shape": [-1]}],
}
X = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}


def asked(declared: dict[str, Any] = DECLARED, tail: bytes = b"", **told: Any) -> Wanted:
    text = json.dumps({"inputs": [X], **told}).encode()
    return read(text + tail, str(len(text)) if tail else None, declared, 1 << 20)


def one(datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": shape}], "outputs": DECLARED["outputs"]}


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_data_may_be_nested_or_in_one_row(data: list) -> None:
    wanted = asked(inputs=[{**X, "data": data}], id="7")
    assert struct.unpack("<4f", wanted.payload) == (1, 2, 3, 4)
    assert wanted.number == "7"
    assert wanted.request["tensors"]["outputs"] == ["y", "z"]
    assert wanted.binary == frozenset()


EXTREMES = {
    "BOOL": [True, False], "BYTES": ["ä", ""], "FP16": [0.5, -65504.0], "FP32": [0.1, -3e38], "FP64": [0.1, 1e308],
}  # fmt: skip


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_is_packed_as_numpy_packs_it_and_comes_back(datatype: str) -> None:
    if datatype in EXTREMES:
        values = EXTREMES[datatype]
    else:
        values = [int(np.iinfo(DATATYPES[datatype]).min), int(np.iinfo(DATATYPES[datatype]).max)]
    given = {"name": "x", "datatype": datatype, "shape": [2], "data": values}
    payload = asked(one(datatype, [-1]), inputs=[given]).payload
    if datatype == "BYTES":
        assert payload == joined([value.encode() for value in values])
    else:
        assert payload == np.array(values, DATATYPES[datatype]).tobytes()
    told = [{"name": "y", "datatype": datatype, "shape": [2], "bytes": len(payload)}]
    text, length = write({}, told, payload, Wanted({}, b""))
    assert length is None
    back = json.loads(text)["outputs"][0]["data"]
    assert back == pytest.approx(values, rel=1e-6) if datatype.startswith("FP") else back == values


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name.lstrip("U").startswith("INT")])
@pytest.mark.parametrize("step", [-1, 1])
def test_a_number_that_a_datatype_cannot_hold_is_refused(datatype: str, step: int) -> None:
    told = np.iinfo(DATATYPES[datatype])
    value = int(told.max) + 1 if step > 0 else int(told.min) - 1
    with pytest.raises(BadRequest, match=f"{datatype} cannot hold"):
        asked(one(datatype, [1]), inputs=[{"name": "x", "datatype": datatype, "shape": [1], "data": [value]}])


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP16", 1e6), ("FP32", 1e39), ("FP32", -1e300), ("FP32", 1.5j), ("INT8", 1.0), ("INT8", True), ("UINT8", "1"),
        ("BOOL", 1), ("BYTES", 1), ("FP32", None), ("FP64", True), ("BYTES", "\ud800"),
    ],
)  # fmt: skip
def test_an_element_of_another_kind_is_refused(datatype: str, value: Any) -> None:
    value = "no number" if isinstance(value, complex) else value
    with pytest.raises(BadRequest):
        asked(one(datatype, [1]), inputs=[{"name": "x", "datatype": datatype, "shape": [1], "data": [value]}])


def _x(**changed: Any) -> dict[str, Any]:
    return {"inputs": [{**X, **changed}]}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"inputs": None}, "list of objects"),
        ({"inputs": [1]}, "list of objects"),
        ({"inputs": []}, "'x' missing"),
        ({"inputs": [X, X]}, "each once"),
        ({"inputs": [X, {**X, "name": ["y"]}]}, "exactly the inputs x"),
        (_x(name="other"), "'x' missing"),
        (_x(datatype="FP64"), "the datatype 'FP64'; the model takes FP32"),
        (_x(datatype=None), "the datatype None"),
        (_x(shape=[4]), r"shape \[4\]; the model takes \[-1, 2\]"),
        (_x(shape=[2, 3]), r"the model takes \[-1, 2\]"),
        (_x(shape=[-1, 2]), "numbers from 0"),
        (_x(shape="2"), "numbers from 0"),
        (_x(shape=[2.0, 2]), "numbers from 0"),
        (_x(shape=[True, 2]), "numbers from 0"),
        (_x(data=None), "has to be a list"),
        (_x(data=[1, 2, 3]), r"has 3 elements; its shape \[2, 2\] has 4"),
        (_x(data=[[1, 2, 3, 4]]), "neither one row nor nested"),
        (_x(data=[[1, 2], 3, 4]), "neither one row nor nested"),
        (_x(data=[1, [2], 3, 4]), "neither one row nor nested"),
        (_x(data=[[[1], [2]], [[3], [4]]]), "neither one row nor nested"),
        (_x(parameters={"binary_data_size": 16}), "not both"),
        (_x(parameters={"shared_memory_region": "a"}), "shared memory"),
        ({"outputs": [{"name": "q"}]}, "no output 'q'; it gives y, z"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "twice"),
        ({"outputs": [{}]}, "no output None"),
        ({"outputs": "y"}, "list of objects"),
        ({"outputs": [{"name": "y", "parameters": {"classification": 1}}]}, "binary_data is supported"),
        ({"parameters": []}, "object"),
        ({"parameters": {"binary_data_output": "yes"}}, "true or false"),
        ({"id": 7}, "id has to be a text"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_what_is_expected(told: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        asked(**told)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"NaN", b'{"inputs": NaN}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body, None, DECLARED, 1 << 20)


def test_raw_data_follows_the_json_in_the_order_of_the_inputs() -> None:
    both = {"inputs": [*DECLARED["inputs"], {"name": "b", "datatype": "BOOL", "shape": [3]}], "outputs": []}
    inputs = [
        {"name": "b", "datatype": "BOOL", "shape": [3], "parameters": {"binary_data_size": 3}},
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
    ]
    wanted = asked(both, tail=b"\x01\x00\x01" + struct.pack("<2f", 1, 2), inputs=inputs)
    assert [told["name"] for told in wanted.request["tensors"]["inputs"]] == ["b", "x"]
    assert wanted.payload == b"\x01\x00\x01" + struct.pack("<2f", 1, 2)


@pytest.mark.parametrize(
    ("size", "tail", "message"),
    [
        (16, b"1" * 15, "15 bytes follow"),
        (12, b"1" * 12, r"has 12 bytes; FP32 of shape \[2, 2\] has 16"),
        (16, b"1" * 17, "1 bytes follow the last input"),
        (-1, b"1", "binary_data_size is -1"),
        ("16", b"1" * 16, "binary_data_size is '16'"),
    ],
)
def test_raw_data_of_another_size_is_refused(size: Any, tail: bytes, message: str) -> None:
    given = {key: value for key, value in X.items() if key != "data"}
    with pytest.raises(BadRequest, match=message):
        asked(tail=tail, inputs=[{**given, "parameters": {"binary_data_size": size}}])


@pytest.mark.parametrize("length", ["-1", "x", "99", "9" * 5000, "", "٣"])
def test_a_header_length_that_cannot_be_is_refused(length: str) -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        read(b"{}", length, DECLARED, 1 << 20)


def test_json_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadRequest, match="send large tensors as binary data"):
        read(json.dumps({"inputs": [X]}).encode(), None, DECLARED, 10)


def test_a_body_without_json_is_the_only_input() -> None:
    told = read(b"12345678", "0", DECLARED, 1 << 20)
    assert told.request["tensors"]["inputs"][0]["shape"] == [1, 2]
    assert told.binary is None
    assert read(b"abc", "0", one("BYTES", [-1]), 1).payload == joined([b"abc"])
    assert read(b"12345678", "0", one("UINT8", [-1, -1, 2]), 1).request["tensors"]["inputs"][0]["shape"] == [1, 4, 2]
    with pytest.raises(BadRequest, match="has 7 bytes"):
        read(b"1234567", "0", DECLARED, 1 << 20)
    with pytest.raises(BadRequest, match="have to be told"):
        read(b"12", "0", one("UINT8", [-1, -1, -1]), 1 << 20)


OUTPUTS = [
    {"name": "y", "datatype": "FP32", "shape": [2], "bytes": 8},
    {"name": "z", "datatype": "BYTES", "shape": [1], "bytes": 6},
]
DATA = struct.pack("<2f", 1, 2) + joined([b"ok"])


@pytest.mark.parametrize(
    ("outputs", "every", "binary"),
    [
        (None, False, set()),
        (None, True, {"y", "z"}),
        ([{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}], False, {"y"}),
        ([{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}], True, {"z"}),
    ],
)
def test_outputs_are_raw_where_the_client_wants_it(outputs: Any, every: bool, binary: set[str]) -> None:
    more = {"outputs": outputs} if outputs else {}
    wanted = asked(parameters={"binary_data_output": every}, **more)
    assert wanted.binary == binary
    body, length = write({"model_name": "m"}, OUTPUTS, DATA, wanted)
    told = {one["name"]: one for one in json.loads(body[:length])["outputs"]}
    assert {name for name in told if "parameters" in told[name]} == binary
    assert ("data" in told["z"] and told["z"]["data"] == ["ok"]) or "z" in binary
    raw = b"".join(piece for name, piece in (("y", DATA[:8]), ("z", DATA[8:])) if name in binary)
    assert (b"" if length is None else body[length:]) == raw


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("FP32", struct.pack("<f", math.nan)), ("FP64", struct.pack("<d", math.inf)), ("BYTES", joined([b"\xff"]))],
)
def test_what_json_cannot_hold_is_told_and_goes_as_raw_data(datatype: str, data: bytes) -> None:
    told = [{"name": "y", "datatype": datatype, "shape": [1], "bytes": len(data)}]
    with pytest.raises(ModuleFailed, match="as binary data"):
        write({}, told, data, Wanted({}, b""))
    body, length = write({}, told, data, Wanted({}, b"", binary=None))
    assert body[length:] == data

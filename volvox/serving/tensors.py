"""Inference requests and answers of the Open Inference Protocol, between HTTP and raw bytes.

Tensors are held as raw bytes, little-endian and row by row, never as lists of numbers, except in JSON itself. NumPy is
not needed: the server is installed without it.

Source: the KServe V2 protocol (REST) and Triton's binary tensor data extension.
"""

from __future__ import annotations

import array
import json
import math
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

from volvox.errors import InvalidInput, ModuleFailed
from volvox.worker.tensors import fits, joined, split

# Bytes of an element, and what Python's `array` calls it; FP16 it does not know.
_SIZES = {
    "BOOL": (1, "b"), "UINT8": (1, "B"), "UINT16": (2, "H"), "UINT32": (4, "I"), "UINT64": (8, "Q"), "INT8": (1, "b"),
    "INT16": (2, "h"), "INT32": (4, "i"), "INT64": (8, "q"), "FP16": (2, "e"), "FP32": (4, "f"), "FP64": (8, "d"),
}  # fmt: skip
_NEITHER = "input {!r}: its data is neither one row nor nested by its shape {}"


class BadRequest(InvalidInput):
    """What the client sent is no inference request for this model."""

    status = 400


@dataclass(frozen=True)
class Wanted:
    """An inference request that was read and found to fit the model.

    Attributes:
        request: What the worker is asked, as `volvox.worker.tensors` has it.
        payload: The tensors' data.
        number: The request's id, if the client gave one.
        binary: The outputs that the client wants as raw bytes; None stands for all.
    """

    request: dict[str, Any]
    payload: bytes
    number: str | None = None
    binary: frozenset[str] | None = field(default=frozenset())


def read(body: bytes, header_length: str | None, declared: dict[str, Any], limit: int) -> Wanted:
    """The request in `body`, checked against what the model declares.

    Args:
        body: Of the HTTP request.
        header_length: Its header Inference-Header-Content-Length, if any; 0 means that the body is the only input.
        declared: What the module's `get_tensors` gave.
        limit: The most bytes of JSON.

    Raises:
        BadRequest: If it is none, or does not fit; the message says what is expected.
    """
    length = len(body) if header_length is None else _length(header_length, len(body))
    if length == 0 and header_length is not None:
        return _raw(body, declared)
    if length > limit:
        raise BadRequest(f"the JSON is {length} bytes long; {limit} are taken: send large tensors as binary data")
    asked = json_object(body[:length])
    parameters = asked.get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest("parameters have to be an object")
    number = asked.get("id")
    if number is not None and not isinstance(number, str):
        raise BadRequest("id has to be a text")
    inputs, payload = _inputs(asked.get("inputs"), declared["inputs"], memoryview(body)[length:])
    outputs, binary = _outputs(asked.get("outputs"), declared["outputs"], parameters.get("binary_data_output", False))
    request = {"tensors": {"inputs": inputs, "outputs": outputs, "parameters": parameters}}
    return Wanted(request, payload, number, binary)


def write(told: dict[str, Any], outputs: list[dict[str, Any]], data: bytes, wanted: Wanted) -> tuple[bytes, int | None]:
    """An answer's body, and how long its JSON is where raw data follows (None: it is JSON only).

    Args:
        told: What the JSON has beside `id` and `outputs`.
        outputs: The tensors, as the worker told them.
        data: Theirs, one after the other.
        wanted: The request.

    Raises:
        ModuleFailed: If a value cannot be told in JSON.
    """
    found, raw, at, view = [], [], 0, memoryview(data)
    for output in outputs:
        piece, at = view[at : at + output["bytes"]], at + output["bytes"]
        one = {"name": output["name"], "datatype": output["datatype"], "shape": output["shape"]}
        if wanted.binary is None or output["name"] in wanted.binary:
            one["parameters"] = {"binary_data_size": len(piece)}
            raw.append(piece)
        else:
            one["data"] = _values(output["name"], output["datatype"], piece)
        found.append(one)
    answer = {**told, **({"id": wanted.number} if wanted.number is not None else {}), "outputs": found}
    try:
        text = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise ModuleFailed(
            "an output has values that are no numbers, or infinite: ask for it as binary data"
        ) from error
    return (b"".join([text, *raw]), len(text)) if raw else (text, None)


# -- requests --------------------------------------------------------------------------------------------------------


def _inputs(given: Any, declared: list[dict[str, Any]], binary: memoryview) -> tuple[list[dict[str, Any]], bytes]:
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise BadRequest("inputs have to be a list of objects, each with name, datatype, shape and data")
    known = {told["name"]: told for told in declared}
    names = [one.get("name") for one in given]
    if (missing := [name for name in known if name not in names]) or len(names) != len(known):
        about = f"{', '.join(map(repr, missing))} missing; " if missing else ""
        raise BadRequest(f"{about}the model takes exactly the inputs {', '.join(known)}, each once")
    found, pieces = [], []
    for one in given:
        told = known[one["name"]]
        shape = _shape(one, told)
        parameters = one.get("parameters") or {}
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if isinstance(parameters, dict) and "shared_memory_region" in parameters:
            raise BadRequest(f"input {told['name']!r}: shared memory is not supported; send the data")
        if size is None:
            data = _packed(told, one.get("data"), shape)
        else:
            if "data" in one or type(size) is not int or not 0 <= size <= len(binary):
                raise BadRequest(
                    f"input {told['name']!r}: binary_data_size is {size!r}, and {len(binary)} bytes follow; "
                    "give data or binary_data_size, not both"
                )
            data, binary = _checked(told, binary[:size], shape), binary[size:]
        found.append({"name": told["name"], "datatype": told["datatype"], "shape": shape, "bytes": len(data)})
        pieces.append(data)
    if len(binary):
        raise BadRequest(f"{len(binary)} bytes follow the last input")
    return found, b"".join(pieces)


def _raw(body: bytes, declared: dict[str, Any]) -> Wanted:
    """A body that is the data of the only input: a batch of one, and one other length may be left open."""
    if len(declared["inputs"]) != 1:
        raise BadRequest("the model takes several inputs: a body without JSON cannot tell them apart")
    told = declared["inputs"][0]
    shape = [1 if not at and size == -1 else size for at, size in enumerate(told["shape"])]
    if told["datatype"] == "BYTES":
        body, open_length = joined([body]), 1
    else:
        size = _SIZES[told["datatype"]][0]
        open_length, rest = divmod(len(body), max(1, size * math.prod(each for each in shape if each != -1)))
        if rest:
            open_length = 0
    if shape.count(-1) > 1:
        raise BadRequest(f"input {told['name']!r} has the shape {told['shape']}: its lengths have to be told, in JSON")
    shape = [open_length if size == -1 else size for size in shape]
    data = _checked(told, memoryview(body), shape)
    one = {"name": told["name"], "datatype": told["datatype"], "shape": shape, "bytes": len(data)}
    return Wanted({"tensors": {"inputs": [one], "outputs": [], "parameters": {}}}, bytes(data), None, None)


def _outputs(given: Any, declared: list[dict[str, Any]], every: Any) -> tuple[list[str], frozenset[str] | None]:
    """Names of the outputs that are wanted, and those of them as raw bytes."""
    if not isinstance(every, bool):
        raise BadRequest("binary_data_output has to be true or false")
    known = [told["name"] for told in declared]
    if not given and given in (None, []):
        return known, frozenset(known if every else ())
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise BadRequest("outputs have to be a list of objects, each with a name")
    names = [one.get("name") for one in given]
    if unknown := [name for name in names if name not in known]:
        raise BadRequest(f"the model has no output {unknown[0]!r}; it gives {', '.join(known)}")
    if len(set(names)) != len(names):
        raise BadRequest("an output is asked for twice")
    binary = set()
    for one in given:
        parameters = one.get("parameters") or {}
        if not isinstance(parameters, dict) or "classification" in parameters or "shared_memory_region" in parameters:
            raise BadRequest(f"output {one['name']!r}: the parameter binary_data is supported, and no other")
        if parameters.get("binary_data", every):
            binary.add(one["name"])
    return names, frozenset(binary)


def _shape(one: dict[str, Any], told: dict[str, Any]) -> list[int]:
    name, shape = told["name"], one.get("shape")
    if one.get("datatype") != told["datatype"]:
        raise BadRequest(f"input {name!r} has the datatype {one.get('datatype')!r}; the model takes {told['datatype']}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadRequest(f"input {name!r}: its shape has to be a list of numbers from 0")
    if not fits(shape, told["shape"]):
        raise BadRequest(f"input {name!r} has the shape {shape}; the model takes {told['shape']} (-1: any)")
    return shape


def _checked(told: dict[str, Any], data: memoryview, shape: list[int]) -> memoryview:
    """Raw data that has as many elements as its shape says."""
    name, count = told["name"], math.prod(shape)
    if told["datatype"] == "BYTES":
        try:
            there = len(split(data))
        except ValueError as error:
            raise BadRequest(f"input {name!r}: {error}") from error
        if there != count:
            raise BadRequest(f"input {name!r} has {there} elements; its shape {shape} has {count}")
    elif len(data) != (size := _SIZES[told["datatype"]][0] * count):
        raise BadRequest(f"input {name!r} has {len(data)} bytes; {told['datatype']} of shape {shape} has {size}")
    return data


# -- JSON ------------------------------------------------------------------------------------------------------------


def _packed(told: dict[str, Any], data: Any, shape: list[int]) -> bytes:
    """The elements of JSON `data`, nested by its shape or in one row, as raw bytes."""
    name, datatype = told["name"], told["datatype"]
    if not isinstance(data, list):
        raise BadRequest(f"input {name!r}: its data has to be a list")
    flat = _flat(data, shape, name)
    if len(flat) != (count := math.prod(shape)):
        raise BadRequest(f"input {name!r} has {len(flat)} elements; its shape {shape} has {count}")
    allowed = {"BOOL": {bool}, "BYTES": {str}}.get(datatype, {int, float} if datatype.startswith("FP") else {int})
    if strange := set(map(type, flat)) - allowed:
        kinds = ", ".join(sorted(kind.__name__ for kind in strange))
        raise BadRequest(f"input {name!r} is {datatype}, but its data has elements of another kind ({kinds})")
    if datatype == "BYTES":
        return joined([_text(one, name) for one in flat])
    try:
        return _bytes(datatype, flat)
    except (OverflowError, struct.error) as error:
        raise BadRequest(f"input {name!r} has an element that {datatype} cannot hold ({error})") from error


def _flat(data: list[Any], shape: list[int], name: str) -> list[Any]:
    """The elements in one row; where they are nested, by exactly their shape."""
    if data and isinstance(data[0], list):
        rows = [data]
        for size in shape:
            if not all(isinstance(row, list) and len(row) == size for row in rows):
                raise BadRequest(_NEITHER.format(name, shape))
            rows = [each for row in rows for each in row]
        data = rows
    if any(isinstance(one, list) for one in data):
        raise BadRequest(_NEITHER.format(name, shape))
    return data


def _bytes(datatype: str, flat: list[Any]) -> bytes:
    letter = _SIZES[datatype][1]
    if letter == "e":
        return struct.pack(f"<{len(flat)}e", *flat)
    made = array.array(letter, flat)
    if letter == "f" and made and not (math.isfinite(max(made)) and math.isfinite(min(made))):
        raise OverflowError("too large")  # `array` makes it infinite
    if sys.byteorder == "big":
        made.byteswap()
    return made.tobytes()


def _values(name: str, datatype: str, data: memoryview) -> list[Any]:
    """The elements of raw data, for JSON."""
    if datatype == "BYTES":
        try:
            return [one.decode() for one in split(data)]
        except UnicodeDecodeError as error:
            raise ModuleFailed(f"output {name!r} is no text: ask for it as binary data") from error
    letter = _SIZES[datatype][1]
    if letter == "e":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    made = array.array(letter)
    made.frombytes(data)
    if sys.byteorder == "big":
        made.byteswap()
    return list(map(bool, made)) if datatype == "BOOL" else made.tolist()


def json_object(text: bytes) -> dict[str, Any]:
    """The JSON object that `text` is.

    Raises:
        BadRequest: If it is none.
    """
    try:
        asked = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON that can be read ({error})") from error
    if not isinstance(asked, dict):
        raise BadRequest("the body has to be a JSON object")
    return asked


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _text(one: str, name: str) -> bytes:
    try:
        return one.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"input {name!r} has a text that is no Unicode") from error


def _length(told: str, size: int) -> int:
    if not told.isascii() or not told.isdigit() or len(told) > 18 or int(told) > size:
        raise BadRequest(f"Inference-Header-Content-Length is {told!r}; the body has {size} bytes")
    return int(told)

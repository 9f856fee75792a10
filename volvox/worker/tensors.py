"""Tensors in, tensors out: modules that offer `get_tensors` and `infer`.

`get_tensors() -> {"inputs": [TENSOR], "outputs": [TENSOR]}` with TENSOR = `{"name", "datatype", "shape"}`, datatypes of
the Open Inference Protocol, -1 in a shape for any length. `infer(inputs) -> outputs` takes and gives a dict of NumPy
arrays by name, of BYTES as arrays of objects of type `bytes`; where its signature names `parameters` it gets those of
the request. Where the first length of every tensor is declared -1, requests are computed together: concatenated along
it, and the outputs divided again.

A request has `"tensors": {"inputs": [{"name", "datatype", "shape", "bytes"}], "outputs": [NAME], "parameters": OBJECT}`
and its tensors' data one after the other in `payload`; so has an answer, `{"tensors": [...]}`, in its body. The data is
little-endian, row by row; each element of BYTES has its length before it, four bytes.

NumPy is imported only for a module that declares tensors.
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, Callable, Dict, Tuple

from volvox.worker import loading

if TYPE_CHECKING:
    import numpy as np

Answer = Tuple[Dict[str, Any], bytes]

# What NumPy calls them; BYTES has no size of its own.
DATATYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BYTES": "O",
}  # fmt: skip
_LENGTH = struct.Struct("<I")


class Wrong(Exception):
    """What a module declares, or gives, is not what it should be."""


class Tensors:
    """The tensors of one module.

    Attributes:
        declared: What the module declares, as plain JSON.
        batches: Whether requests may be computed together.
    """

    def __init__(self, module: Any) -> None:
        """Read the declaration of `module`, which offers `get_tensors`.

        Raises:
            Wrong: If it cannot be understood, or the module offers no `infer`.
        """
        self.declared = {side: [_declared(told) for told in given] for side, given in _sides(module.get_tensors())}
        if not callable(getattr(module, "infer", None)):
            raise Wrong("the module offers get_tensors(), but no infer()")
        self._infer = module.infer
        self._parameters = loading.accepts(module.infer, "parameters")
        self._outputs = {told["name"]: told for told in self.declared["outputs"]}
        every = [*self.declared["inputs"], *self.declared["outputs"]]
        self.batches = all(told["shape"] and told["shape"][0] == -1 for told in every)

    def answer_many(self, requests: list[dict[str, Any]], failure: Callable[[Exception], Any]) -> list[Answer]:
        """The answers to `requests`, computed together where they agree; `failure` turns an exception into one."""
        answers: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for at, request in enumerate(requests):
            try:
                arrays = _arrays(request["tensors"]["inputs"], request.get("payload", b""))
                groups.setdefault(self._group(at, request["tensors"], arrays), []).append((at, arrays))
            except Exception as error:
                answers[at] = failure(error)
        for group in groups.values():
            for at, told in self._together(requests, group) if len(group) > 1 else ():
                answers[at] = told
            for at, arrays in group:
                if answers[at] is None:  # alone, or together with one that the module refused
                    try:
                        answers[at] = self._answer(requests[at], self._checked(requests[at], arrays))
                    except Exception as error:
                        answers[at] = failure(error)
        return answers

    def _group(self, at: int, asked: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        """Requests with the same key can be computed together."""
        rows = {len(array) for array in arrays.values()} if self.batches else set()
        if len(rows) != 1:
            return at
        shapes = tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in arrays.items()))
        return shapes, json.dumps(asked.get("parameters"), sort_keys=True) if self._parameters else ""

    def _together(self, requests: list[dict[str, Any]], group: Any) -> list[tuple[int, Answer]]:
        """The answers to a group; none if the module refuses one of them, or does not give a row for each."""
        import numpy as np

        rows = [len(next(iter(arrays.values()))) for _, arrays in group]
        names = list(group[0][1])
        try:
            given = self._checked(
                requests[group[0][0]], {name: np.concatenate([arrays[name] for _, arrays in group]) for name in names}
            )
            if any(len(array) != sum(rows) for array in given.values()):
                return []
            ends = np.cumsum(rows)
            return [
                (at, self._answer(requests[at], {name: array[end - count : end] for name, array in given.items()}))
                for (at, _), count, end in zip(group, rows, ends)
            ]
        except Exception:
            return []

    def _checked(self, request: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the module gives for `arrays`, each of the type and shape that it declared.

        Raises:
            Wrong: If it is not.
        """
        import numpy as np

        more = {"parameters": request["tensors"].get("parameters") or {}} if self._parameters else {}
        given = self._infer(arrays, **more)
        if not isinstance(given, dict):
            raise Wrong(f"infer() gave a {type(given).__name__}; it has to give a dict of arrays by name")
        found = {}
        for name, told in self._outputs.items():
            if name not in given:
                raise Wrong(f"infer() gave no output {name!r}, which get_tensors() declares")
            array, dtype = np.asarray(given[name]), np.dtype(DATATYPES[told["datatype"]])
            if not fits(list(array.shape), told["shape"]):
                raise Wrong(f"infer() gave {name!r} of shape {list(array.shape)}; {told['shape']} is declared")
            if dtype.kind != "O" and not np.can_cast(array.dtype, dtype, "same_kind"):
                raise Wrong(f"infer() gave {name!r} as {array.dtype}; {told['datatype']} is declared")
            found[name] = array if dtype.kind == "O" else array.astype(dtype, copy=False)
        return found

    def _answer(self, request: dict[str, Any], given: dict[str, np.ndarray]) -> Answer:
        wanted = request["tensors"].get("outputs") or list(self._outputs)
        told, bodies = [], []
        for name in wanted:
            array, datatype = given[name], self._outputs[name]["datatype"]
            body = _elements(array) if datatype == "BYTES" else array.tobytes()
            told.append({"name": name, "datatype": datatype, "shape": list(array.shape), "bytes": len(body)})
            bodies.append(body)
        return {"tensors": told}, b"".join(bodies)


def of(module: Any) -> Tensors | None:
    """The tensors of `module`; None if it declares none.

    Raises:
        Wrong: If its declaration cannot be understood.
    """
    return Tensors(module) if getattr(module, "get_tensors", None) is not None else None


def fits(shape: list[int], declared: list[int]) -> bool:
    """Whether `shape` is one that `declared` allows."""
    return len(shape) == len(declared) and all(want in (-1, size) for size, want in zip(shape, declared))


def split(data: Any) -> list[bytes]:
    """The elements of a BYTES tensor, each with its length before it.

    Raises:
        ValueError: If a length leads past the end.
    """
    found, at, size = [], 0, len(data)
    while at < size:
        end = at + _LENGTH.size
        if end > size or (after := end + _LENGTH.unpack_from(data, at)[0]) > size:
            raise ValueError(f"an element of a BYTES tensor leads past its end at byte {at}")
        found.append(bytes(data[end:after]))
        at = after
    return found


def joined(elements: list[bytes]) -> bytes:
    """The inverse of `split`."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def _sides(given: Any) -> list[tuple[str, list[Any]]]:
    if not isinstance(given, dict) or not all(isinstance(given.get(side), (list, tuple)) for side in _SIDES):
        raise Wrong('get_tensors() has to give {"inputs": [...], "outputs": [...]}')
    for side in _SIDES:
        names = [told.get("name") for told in given[side] if isinstance(told, dict)]
        if not names or len(set(names)) != len(given[side]):
            raise Wrong(f"get_tensors() has to name each of the {side}, with names of their own")
    return [(side, list(given[side])) for side in _SIDES]


_SIDES = ("inputs", "outputs")


def _declared(told: dict[str, Any]) -> dict[str, Any]:
    name, datatype, shape = told.get("name"), told.get("datatype"), told.get("shape")
    if not isinstance(name, str) or not name:
        raise Wrong(f"get_tensors() declares a tensor without a name: {told}")
    if datatype not in DATATYPES:
        raise Wrong(f"get_tensors() declares {name!r} as {datatype!r}; there are {', '.join(DATATYPES)}")
    if not isinstance(shape, (list, tuple)) or not all(isinstance(size, int) and size >= -1 for size in shape):
        raise Wrong(f"get_tensors() declares {name!r} of shape {shape!r}; give a list of numbers, -1 for any length")
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _arrays(inputs: list[dict[str, Any]], payload: bytes) -> dict[str, np.ndarray]:
    """Arrays that the module may write to, each at an address of its own."""
    import numpy as np

    found, at, data = {}, 0, memoryview(payload)
    for told in inputs:
        piece, at = data[at : at + told["bytes"]], at + told["bytes"]
        shape = told["shape"]
        if told["datatype"] == "BYTES":
            array = np.empty(math.prod(shape), object)
            array[:] = split(piece)
        else:
            array = np.frombuffer(piece, DATATYPES[told["datatype"]]).copy()
        found[told["name"]] = array.reshape(shape)
    return found


def _elements(array: np.ndarray) -> bytes:
    return joined([value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()])

"""How much one server takes on before it says no."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a served model may be asked at once, and how long an answer may take.

    Attributes:
        upload_bytes: The largest request body.
        queue: How many requests may wait for one model; one more is answered 429.
        deadline_seconds: From the moment a request was read to its answer; later it is answered 503 or 504.
        start_seconds: How long a worker may take to import and warm its module.
        text_bytes: The largest form field or JSON body, which are held in memory.
        tensor_bytes: The largest body of an inference request with tensors, which is held in memory.
        fields: How many parts a form may have.
        workers: How many processes hold each model.
        batch: How many requests a module with `predict_batch` answers at once.
        batch_delay_seconds: How long a free worker waits for more requests to answer together; a request that comes
            alone, as requests usually do there, never waits.
    """

    upload_bytes: int = 256 << 20
    queue: int = 64
    deadline_seconds: float = 60.0
    start_seconds: float = 180.0
    text_bytes: int = 8 << 20
    tensor_bytes: int = 64 << 20
    fields: int = 1000
    workers: int = 1
    batch: int = 32
    batch_delay_seconds: float = 0.0

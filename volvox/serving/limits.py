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
        training_slots: How many trainings run at once; the others wait in the order they came.
        job_seconds: How long the prediction of a job may take, from the moment a worker has it; a training may take
            as long as it does.
        jobs_waiting: How many jobs may wait; one more is answered 429.
        jobs_kept: How many finished jobs are kept, the newest.
        jobs_days: And for how many days.
        job_deaths: A job during which the server was killed so many times is not tried again.
        warm: Whether modules are warmed before they are asked.
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
    training_slots: int = 1
    job_seconds: float = 3600.0
    jobs_waiting: int = 1000
    jobs_kept: int = 1000
    jobs_days: float = 30.0
    job_deaths: int = 3
    warm: bool = True

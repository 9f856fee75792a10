"""What Lambda and Batch can and cannot do, as numbers, and which of them fits a function."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from volvox.errors import InvalidInput
from volvox.functions.definition import Function

LAMBDA_MEMORY_MB = (128, 10_240)
LAMBDA_SECONDS = 900
LAMBDA_STORAGE_MB = (512, 10_240)
LAMBDA_IMAGE_BYTES = 10 << 30
LAMBDA_PAYLOAD_BYTES = 6 << 20
LAMBDA_VARIABLES_BYTES = 4096
INLINE_BYTES = 4 << 20  # of a file in a payload, before base64 and what goes with it
LAMBDA_CPU_MB = 1769  # of memory for each processor
LAMBDA_CPUS = 6
_MEMORY_MB, _CPU = 2048, 1.0  # where nobody says what it needs
_FARGATE_CPU = (0.25, 0.5, 1, 2, 4, 8, 16)
# What Fargate has of memory for each number of processors, in MB: least, most, step.
_FARGATE_MB: dict[float, tuple[int, int, int]] = {
    0.25: (512, 2048, 512), 0.5: (1024, 4096, 1024), 1: (2048, 8192, 1024), 2: (4096, 16384, 1024),
    4: (8192, 30720, 1024), 8: (16384, 61440, 4096), 16: (32768, 122880, 8192),
}  # fmt: skip
_OVERHEAD_SECONDS = 10  # beside the call's own time, for fetching and publishing


@dataclass(frozen=True, slots=True)
class Size:
    """What a Lambda function is given.

    Attributes:
        memory_mb: Main memory.
        seconds: How long an event may take, publishing included.
        storage_mb: Its disk `/tmp`.
    """

    memory_mb: int
    seconds: int
    storage_mb: int


def size_of(function: Function) -> Size:
    """What the function asks for, within what Lambda has; processors come with memory."""
    needs = function.resources
    memory = max(needs.memory_mb or _MEMORY_MB, round((needs.cpu or 0) * LAMBDA_CPU_MB) if needs.cpu else 0)
    least, most = LAMBDA_MEMORY_MB
    storage = max(needs.storage_mb or 0, LAMBDA_STORAGE_MB[0])
    seconds = min(LAMBDA_SECONDS, round(function.timeout_seconds) + _OVERHEAD_SECONDS)
    return Size(min(max(memory, least), most), max(1, seconds), min(storage, LAMBDA_STORAGE_MB[1]))


def container_size(function: Function) -> tuple[float, int]:
    """Processors and MB that a job's or task's container is asked for."""
    needs = function.resources
    return needs.cpu or _CPU, needs.memory_mb or _MEMORY_MB


def fits_fargate(cpu: float, memory_mb: int) -> bool:
    """Whether Fargate has so much of both."""
    return cpu <= _FARGATE_CPU[-1] and memory_mb <= _FARGATE_MB[_FARGATE_CPU[-1]][1]


def fargate_size(cpu: float, memory_mb: int) -> tuple[float, int]:
    """The smallest size of Fargate that has so much of both.

    Raises:
        InvalidInput: If none has.
    """
    for processors in _FARGATE_CPU:
        least, most, step = _FARGATE_MB[processors]
        if processors >= cpu and most >= memory_mb:
            more = max(0, memory_mb - least)
            return processors, least + -(-more // step) * step
    raise InvalidInput(
        f"Fargate has 16 processors and {_FARGATE_MB[16][1]:,} MB at most, not {cpu:g} and {memory_mb:,} MB: say "
        "batch.compute_resources.type: EC2"
    )


def beyond_lambda(function: Function, image_bytes: int = 0) -> Iterator[str]:
    """Why Lambda cannot run it as it is defined, a sentence each; none: it can.

    Args:
        function: The function.
        image_bytes: Its image's size, uncompressed; 0: not known.
    """
    needs = function.resources
    if needs.gpus:
        yield "it asks for a GPU, which Lambda has not"
    if (needs.memory_mb or 0) > LAMBDA_MEMORY_MB[1]:
        yield f"it asks for {needs.memory_mb:,} MB of memory, and Lambda has {LAMBDA_MEMORY_MB[1]:,} MB at most"
    if (needs.cpu or 0) > LAMBDA_CPUS:
        yield f"it asks for {needs.cpu:g} processors, and Lambda has {LAMBDA_CPUS} at most"
    if (needs.storage_mb or 0) > LAMBDA_STORAGE_MB[1]:
        yield f"it asks for {needs.storage_mb:,} MB of disk, and Lambda has {LAMBDA_STORAGE_MB[1]:,} MB at most"
    if function.timeout_seconds > LAMBDA_SECONDS:
        yield f"it may take {function.timeout_seconds:,.0f} s, and Lambda gives {LAMBDA_SECONDS} s at most"
    if image_bytes > LAMBDA_IMAGE_BYTES:
        yield f"its image has {image_bytes / (1 << 30):.1f} GB, and Lambda takes 10 GB at most"
    if settings_of_many_nodes(function):
        yield "it asks for several machines (multi_node_parallel), which only Batch has"


def settings_of_many_nodes(function: Function) -> dict[str, object]:
    """What the function says of several machines for one job; empty: it has one."""
    batch = function.settings.get("batch")
    found = batch.get("multi_node_parallel") if isinstance(batch, dict) else None
    return dict(found) if isinstance(found, dict) and found.get("enabled") else {}


def mode_for(function: Function, image_bytes: int = 0) -> tuple[str, str]:
    """Which runtime of AWS fits, and why, in a sentence."""
    if reasons := list(beyond_lambda(function, image_bytes)):
        return "batch", f"batch: {reasons[0]}"
    if function.timeout_seconds > LAMBDA_SECONDS - _OVERHEAD_SECONDS:
        return "lambda-batch", "lambda-batch: what takes as long as Lambda gives at most goes to Batch"
    return "lambda", (
        f"lambda: {function.timeout_seconds:g} s and {size_of(function).memory_mb:,} MB are within what it gives, and "
        "nothing is paid between calls"
    )


def variables_bytes(variables: dict[str, str]) -> int:
    """What Lambda counts of a function's environment."""
    return len(json.dumps(variables).encode())

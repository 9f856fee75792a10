"""Amounts as Kubernetes writes them: `256Mi`, `1Gi`, `500m`, `0.5`, `1e3`."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_FORM = re.compile(r"\+?(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:([eE][+-]?\d{1,2})|(m|k|[MGTPE]i?|Ki)?)")
_FACTORS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000)}
_FACTORS |= {unit: Decimal(1000) ** power for power, unit in enumerate("MGTPE", start=2)}
_FACTORS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}
_MB = 1 << 20
_LEAST_BYTES = 4 * _MB
_MOST_BYTES = 1 << 60


def amount(text: str) -> Decimal:
    """The number that a Kubernetes quantity means.

    Raises:
        ValueError: If it is none; the message says what one looks like.
    """
    told = _FORM.fullmatch(text.strip())
    if told is None:
        raise ValueError("write a number with one of the units m, k, M, G, T, Ki, Mi, Gi, Ti, or without")
    number, exponent, unit = told.groups()
    return Decimal(f"{number}{exponent or ''}") * _FACTORS[unit or ""]


def memory_mb(text: str) -> int:
    """Megabytes of 2**20 bytes, rounded up, of a quantity of bytes.

    Raises:
        ValueError: If it is no quantity, or less than 4Mi, which nothing runs in.
    """
    size = amount(text)
    if size < _LEAST_BYTES:
        hint = f"; write {text.strip()}Mi for megabytes" if text.strip().isdecimal() else ""
        raise ValueError(f"these are {float(size):g} bytes, and nothing runs in less than 4Mi{hint}")
    if size > _MOST_BYTES:
        raise ValueError("no machine has so much")
    return math.ceil(size / _MB)


def cores(text: str) -> float:
    """Cores, to a thousandth of one, of a quantity of processors.

    Raises:
        ValueError: If it is no quantity, or nothing, or more than any machine has.
    """
    cpu = amount(text)
    if not Decimal("0.001") <= cpu <= 100_000:
        raise ValueError("write a number of cores from 0.001 (1m) upwards, such as 0.5 or 500m")
    return math.ceil(cpu * 1000) / 1000


def memory_text(megabytes: int) -> str:
    """The quantity that `memory_mb` reads as `megabytes`."""
    return f"{megabytes // 1024}Gi" if megabytes % 1024 == 0 else f"{megabytes}Mi"


def cores_text(cpu: float) -> str:
    """The quantity that `cores` reads as `cpu`."""
    thousandths = round(cpu * 1000)
    return f"{thousandths / 1000:g}" if thousandths < 1_000_000 else f"{thousandths}m"

"""Which of the content types that a module offers a client wants."""

from __future__ import annotations

from typing import Any, Sequence


def negotiated(header: str, offered: Sequence[str]) -> str | None:
    """The offered type that an Accept header prefers; the first of equals; None if it accepts none of them.

    Source: RFC 9110, section 12.5.1.
    """
    ranges = _ranges(header)
    best: tuple[float, str | None] = (0.0, None)
    for kind in offered:
        if kind == "*/*":
            continue
        # The most specific range that fits decides, whatever the quality of the others.
        fitting = [(rank, quality) for rank, quality in (_fit(kind, told) for told in ranges) if rank]
        quality = max(fitting)[1] if fitting else 0.0
        if quality > best[0]:
            best = (quality, kind)
    return best[1]


def _ranges(header: str) -> list[tuple[str, float]]:
    ranges = []
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    quality = 0.0
        if kind:
            ranges.append((kind, quality))
    return ranges


def _fit(kind: str, told: tuple[str, float]) -> tuple[int, float]:
    wanted, quality = told
    kind = kind.lower()
    if wanted == kind:
        return 3, quality
    if wanted.endswith("/*") and wanted != "*/*" and kind.startswith(wanted[:-1]):
        return 2, quality
    return (1, quality) if wanted == "*/*" else (0, quality)


def default(field: Any, choices: Sequence[str]) -> str | None:
    """The type that is meant where nobody says which: the field's default, else its first choice."""
    given = getattr(field, "load_default", getattr(field, "missing", None))
    return given if isinstance(given, str) else next((kind for kind in choices if kind != "*/*"), None)

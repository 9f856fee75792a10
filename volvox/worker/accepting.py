"""The content type that a module answers with: its argument `accept`, the request's Accept header.

A module that can answer with more than JSON declares `accept = fields.Str(validate=OneOf([content types]))`. DEEPaaS
lets `*/*` be sent too and takes the first choice where nothing is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

ANY = "*/*"


def offered(fields: Mapping[str, Any]) -> list[str]:
    """The content types that the module offers, its first choice first; `[]` if it does not say."""
    for validator in getattr(fields.get("accept"), "validators", ()):
        if getattr(validator, "choices", None):
            return [str(choice) for choice in validator.choices if choice != ANY]
    return []


def prepared(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with `accept` as DEEPaaS makes it: `*/*` is a choice, the first one the default."""
    choices = offered(fields)
    if not choices:
        return dict(fields)
    accept = copy.copy(fields["accept"])
    setattr(accept, "load_default" if hasattr(accept, "load_default") else "missing", choices[0])
    accept.validators = [_with_any(validator) for validator in accept.validators]
    return {**fields, "accept": accept}


def chosen(header: str, choices: list[str]) -> str | None:
    """Which of `choices` the Accept header prefers; None if it takes none of them, or if there are none.

    Of types that it likes equally the more specific one wins, then the module's first.
    """
    wishes = [_wish(part) for part in header.split(",") if part.strip()]

    def liking(choice: str) -> tuple[float, int]:
        kind = choice.lower().partition(";")[0].strip()
        patterns = [ANY, f"{kind.partition('/')[0]}/*", kind]
        matching = [(patterns.index(pattern), quality) for pattern, quality in wishes if pattern in patterns]
        specific, quality = max(matching, default=(0, 0.0))
        return quality, specific

    liked = [choice for choice in choices if liking(choice)[0] > 0]
    return max(liked, key=liking, default=None)


def _wish(part: str) -> tuple[str, float]:
    """`image/png;q=0.5` as a pattern and its quality, from 0 (not at all) to 1."""
    pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return pattern, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return pattern, 0.0
    return pattern, 1.0


def _with_any(validator: Any) -> Any:
    if not getattr(validator, "choices", None) or ANY in validator.choices:
        return validator
    wider = copy.copy(validator)  # its message still names the module's own choices only, as DEEPaaS' does
    wider.choices = [*validator.choices, ANY]
    return wider

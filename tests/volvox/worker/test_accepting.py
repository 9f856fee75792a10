"""The Accept header against what a module offers."""

from __future__ import annotations

import pytest

from volvox.worker.accepting import negotiated

OFFERED = ["application/json", "image/png", "text/plain"]


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/png"),
        ("*/*", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json;q=0.5, image/png;q=0.9", "image/png"),
        ("image/png;q=0, */*", "application/json"),
        ("application/json;q=0, */*;q=0.1", "image/png"),
        ("image/*;q=0.9, text/plain", "text/plain"),
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/png;q=many", None),
        ("", None),
    ],
)
def test_the_type_that_the_client_wants_most_is_chosen(header: str, chosen: str | None) -> None:
    assert negotiated(header, OFFERED) == chosen

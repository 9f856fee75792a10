"""What a server says to a request that it cannot read."""

from __future__ import annotations

from volvox.errors import InvalidInput


class Malformed(InvalidInput):
    """The body is not what its content type says.

    Attributes:
        messages: `{part: [message]}`, as the DEEPaaS API words them.
    """

    status = 400

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.messages = {part: [message]}


class TooLarge(InvalidInput):
    """The body is larger than the server takes."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"Maximum request body size {limit} exceeded.")

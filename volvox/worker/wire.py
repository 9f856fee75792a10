"""What goes over the socket between the server and a worker: frames.

A frame is two unsigned 32-bit lengths in network order, a JSON object of the first length, raw bytes of the second.
"""

from __future__ import annotations

import json
import struct
from typing import Any

HEAD = struct.Struct("!II")
_ENCODER = json.JSONEncoder(default=str)


def frame(header: dict[str, Any], body: bytes = b"") -> bytes:
    """One message as it goes over the socket."""
    text = _ENCODER.encode(header).encode()
    return HEAD.pack(len(text), len(body)) + text + body


class Frames:
    """Turns what comes over a socket, in whatever pieces, into frames."""

    def __init__(self) -> None:
        self._rest = b""
        self._pieces: list[bytes] = []  # of a frame longer than one piece: joined once, when all of it is there
        self._missing = 0

    def feed(self, piece: bytes) -> list[tuple[dict[str, Any], bytes]]:
        """The frames that `piece` completes, in order: (header, body)."""
        if self._missing > len(piece):
            self._pieces.append(piece)
            self._missing -= len(piece)
            return []
        if self._pieces:
            piece = b"".join([*self._pieces, piece])
            self._pieces, self._missing = [], 0
        data = self._rest + piece if self._rest else piece
        found, at, size = [], 0, len(data)
        while size - at >= HEAD.size:
            header, body = HEAD.unpack_from(data, at)
            end = at + HEAD.size + header + body
            if end > size:
                self._pieces, self._missing = [data[at:]], end - size
                self._rest = b""
                return found
            start = at + HEAD.size
            found.append((json.loads(data[start : start + header]), data[start + header : end]))
            at = end
        self._rest = data[at:]
        return found

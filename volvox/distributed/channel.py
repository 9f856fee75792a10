"""Messages between two machines that share a secret: each one proves that it has it, and signs what it says.

What is said is not secret, and is not encrypted.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from typing import Any

_HANDSHAKE_SECONDS = 5.0
_LONGEST = 1 << 16


class Refused(Exception):
    """The other side does not know the secret, or does not want us; the message says which."""


class Channel:
    """One connection; messages are dictionaries."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, sides: str) -> None:
        """`sides` are the letters of this side and of the other one."""
        self._reader, self._writer, self._key = reader, writer, key
        self._own, self._other = sides
        self._sent = self._received = 0

    def send(self, message: dict[str, Any]) -> None:
        """Hand over a message; what becomes of it is not waited for."""
        if self._writer.is_closing():
            return
        text = json.dumps(message)
        self._sent += 1
        self._writer.write(f"{_sign(self._key, self._own, self._sent, text)} {text}\n".encode())

    async def receive(self) -> dict[str, Any]:
        """The next message.

        Raises:
            ConnectionError: If there will be none.
            Refused: If it was not sent by who knows the secret.
        """
        signature, _, text = (await _line(self._reader)).partition(" ")
        self._received += 1
        if not hmac.compare_digest(signature, _sign(self._key, self._other, self._received, text)):
            raise Refused("a message is not signed with the shared token")
        return json.loads(text)

    async def close(self) -> None:
        """Send what has been handed over, and end the connection."""
        await close(self._writer)


async def accept(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str
) -> tuple[Channel, dict[str, Any]]:
    """The channel to one that has connected, and what it says of itself.

    Raises:
        ConnectionError: If it says nothing, or leaves.
        Refused: If it does not know the token.
    """
    ours = secrets.token_hex(16)
    writer.write(f"{ours}\n".encode())
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            theirs, signature, text = (await _line(reader)).split(" ", 2)
    except (TimeoutError, ValueError) as error:
        raise ConnectionError("no greeting") from error
    if not hmac.compare_digest(signature, _sign(token.encode(), "join", ours, theirs, text)):
        writer.write(b"refused\n")
        raise Refused("the token is another one")
    writer.write(f"{_sign(token.encode(), 'welcome', ours, theirs)}\n".encode())
    return Channel(reader, writer, _key(token, ours, theirs), "sc"), json.loads(text)


async def connect(host: str, port: int, token: str, greeting: dict[str, Any]) -> Channel:
    """The channel to who listens at `host`:`port`.

    Raises:
        OSError: If nobody does.
        Refused: If one side does not know the token.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            ours, theirs, text = secrets.token_hex(16), await _line(reader), json.dumps(greeting)
            writer.write(f"{ours} {_sign(token.encode(), 'join', theirs, ours, text)} {text}\n".encode())
            answer = await _line(reader)
    except TimeoutError as error:
        await close(writer)
        raise ConnectionError("no greeting") from error
    except BaseException:
        await close(writer)
        raise
    if not hmac.compare_digest(answer, _sign(token.encode(), "welcome", theirs, ours)):
        await close(writer)
        raise Refused("the token of the two sides is not the same")
    return Channel(reader, writer, _key(token, theirs, ours), "cs")


async def close(writer: asyncio.StreamWriter) -> None:
    """End a connection, whatever state it is in."""
    try:
        writer.close()
        async with asyncio.timeout(1):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


async def _line(reader: asyncio.StreamReader) -> str:
    try:
        line = await reader.readline()
    except ValueError as error:  # longer than any of ours
        raise ConnectionError("no message of ours") from error
    if not line.endswith(b"\n") or len(line) > _LONGEST:
        raise ConnectionError("closed")
    return line.decode(errors="replace").rstrip("\n")


def _key(token: str, server: str, client: str) -> bytes:
    return hmac.digest(token.encode(), f"key|{server}|{client}".encode(), hashlib.sha256)


def _sign(key: bytes, *parts: object) -> str:
    return hmac.new(key, "|".join(map(str, parts)).encode(), hashlib.sha256).hexdigest()

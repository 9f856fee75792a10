"""Multipart forms as they come in: files go to disk piece by piece, fields to memory.

It looks for boundaries with `bytes.find`, so that a large upload costs little more than its copying.

Source: RFC 7578 and RFC 2046, section 5.1.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from python_multipart.multipart import parse_options_header

from volvox.serving.limits import Limits
from volvox.serving.refusals import Malformed, TooLarge

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_PLAIN = re.compile(rb'form-data; name="([^"\\]*)"(?:; filename="([^"\\]*)")?', re.IGNORECASE)
_HEADER_BYTES = 16 << 10
_numbers = itertools.count(1)


class Form:
    """A form that is fed piece by piece.

    Attributes:
        fields: Name -> texts.
        files: Name -> files, as `{"path", "content_type", "name"}`.
        paths: Every file that was made, to be removed when the request is answered.
    """

    def __init__(self, uploads: Path, boundary: bytes, limits: Limits) -> None:
        """A form whose parts are divided by `boundary`; its files go into the folder `uploads`.

        Raises:
            Malformed: If the boundary is none.
        """
        if not 1 <= len(boundary) <= 200:
            raise Malformed("form", "The multipart body has no boundary.")
        self.fields: dict[str, list[str]] = {}
        self.files: dict[str, list[dict[str, str]]] = {}
        self.paths: list[str] = []
        self._uploads, self._limits = uploads, limits
        self._delimiter = b"\r\n--" + boundary
        self._rest = b"\r\n"  # the first boundary may be the first thing there is
        self._state = self._before
        self._parts = self._text_bytes = 0
        self._name = ""
        self._text: list[bytes] = []
        self._file = -1  # descriptor of the file that is being written
        self._bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            Malformed: If it is no form.
            TooLarge: If a field, or the number of parts, exceeds its limit.
            OSError: If a file cannot be written.
        """
        self._rest = self._rest + piece if self._rest else piece
        while self._state():
            pass

    def finish(self) -> None:
        """The body has ended.

        Raises:
            Malformed: If the form has not.
        """
        self.close()
        if self._state != self._after:
            raise Malformed("form", "The multipart body ends before its last boundary.")

    def close(self) -> None:
        """Close the file that is being written, if any."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # -- states: each takes from the rest what it can, and says whether there may be more to take --------------------

    def _before(self) -> bool:
        return self._divided(keep=False)

    def _content(self) -> bool:
        return self._divided(keep=True)

    def _after(self) -> bool:
        self._rest = b""
        return False

    def _head(self) -> bool:
        end = self._rest.find(b"\r\n\r\n")
        if max(end, len(self._rest) if end < 0 else 0) > _HEADER_BYTES:
            raise Malformed("form", "A part of the form has too long a header.")
        if end < 0:
            return False
        head, self._rest = self._rest[:end], self._rest[end + 4 :]
        self._begin(head)
        self._state = self._content
        return True

    def _divided(self, *, keep: bool) -> bool:
        """Go to the next boundary; what is before it belongs to a part, or is nobody's."""
        rest = self._rest
        at = rest.find(self._delimiter)
        if at < 0:
            sure = max(0, len(rest) - len(self._delimiter))  # the last bytes may be the beginning of a boundary
            if keep and sure:
                self._take(rest[:sure])
            self._rest = rest[sure:]
            return False
        after = at + len(self._delimiter)
        follows = rest[after : after + 64]
        line = follows.lstrip(b" \t")
        if not follows.startswith(b"--") and not line.startswith(b"\r\n"):
            if line in (b"", b"\r") or follows == b"-":  # it cannot be known yet
                return False
            if keep:
                self._take(rest[: at + 2])
            self._rest = rest[at + 2 :]  # a line that only begins like a boundary
            return True
        if keep:
            if at:
                self._take(rest[:at])
            self._end()
        if follows.startswith(b"--"):
            self._state = self._after
        else:
            self._rest, self._state = rest[after + len(follows) - len(line) + 2 :], self._head
        return True

    # -- parts -----------------------------------------------------------------------------------------------------

    def _begin(self, head: bytes) -> None:
        self._parts += 1
        if self._parts > self._limits.fields:
            raise Malformed("form", f"The form has more than {self._limits.fields} parts.")
        name = filename = None
        content_type = "application/octet-stream"
        for line in head.split(b"\r\n"):
            key, _, value = line.partition(b":")
            key, value = key.strip().lower(), value.strip()
            if key == b"content-disposition":
                name, filename = _disposition(value)
            elif key == b"content-type":
                content_type = value.decode("latin-1")
        if name is None:
            raise Malformed("form", "A part of the form has no name.")
        self._name, self._text = name, []
        if filename is None:
            return
        suffix = Path(filename.replace("\0", "")).suffix
        # The sender's name is told to the module and never used as a path; its suffix helps libraries that go by it.
        path = f"{self._uploads}/{os.getpid()}-{next(_numbers)}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        self._file, self._bytes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 0
        self.paths.append(path)
        self._told = {"path": path, "content_type": content_type, "name": filename}

    def _take(self, data: bytes) -> None:
        if self._file >= 0:
            self._bytes += len(data)
            while (written := os.write(self._file, data)) < len(data):  # a disk that is nearly full takes a part
                data = data[written:]
            return
        self._text_bytes += len(data)
        if self._text_bytes > self._limits.text_bytes:
            raise TooLarge(self._limits.text_bytes)
        self._text.append(data)

    def _end(self) -> None:
        if self._file < 0:
            self.fields.setdefault(self._name, []).append(b"".join(self._text).decode(errors="replace"))
            return
        empty = not self._told["name"] and not self._bytes
        self.close()
        if not empty:  # a browser sends an empty part without a name where no file was chosen
            self.files.setdefault(self._name, []).append(self._told)


def _disposition(value: bytes) -> tuple[str | None, str | None]:
    """Name and file name in a Content-Disposition header."""
    if plain := _PLAIN.fullmatch(value):
        name, filename = plain.groups()
    else:
        _, options = parse_options_header(value)
        name, filename = options.get(b"name"), options.get(b"filename")
    return (
        None if name is None else name.decode(errors="replace"),
        None if filename is None else filename.decode(errors="replace"),
    )

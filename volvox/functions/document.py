"""YAML whose every value knows where it stands, so that what is wrong with it can be told with file, line and key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from volvox.errors import InvalidInput
from volvox.functions.secrecy import names_secret

_LARGEST_BYTES = 1 << 20
_MOST_VALUES = 50_000  # aliases of aliases would unfold into more than any machine holds
_DEEPEST = 100
_TAG = "tag:yaml.org,2002:"
_USER = re.compile(r"://[^/]*@")
_KINDS = {"int": "number", "float": "number", "bool": "truth", "null": "nothing", "str": "text", "timestamp": "text"}

Kind = Literal["text", "number", "truth", "nothing", "list", "map"]


class Wrong(Exception):
    """One mistake of a file, a whole sentence with file, line and key."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a file.

    Attributes:
        file: The file as it is called in messages.
        line: Counted from 1; a value under a key has the key's line.
        key: The keys that lead to it, `functions.aws.0.lambda.memory`.
        kind: What YAML takes it for.
        text: Of what is neither list nor map, as it stands there.
        items: Of a list.
        entries: Of a map, in order; names as they stand there, one that stands twice twice.
    """

    file: str
    line: int
    key: str
    kind: Kind
    text: str = ""
    items: tuple[Value, ...] = ()
    entries: tuple[tuple[str, Value], ...] = ()

    def get(self, name: str) -> Value | None:
        """What stands under `name`, whatever its case; the last of several, None if nothing does."""
        found = [value for key, value in self.entries if key.lower() == name.lower()]
        return found[-1] if found else None

    def plain(self) -> Any:
        """Its value as JSON has it; numbers that JSON has not are texts."""
        if self.kind == "map":
            return {name: value.plain() for name, value in self.entries}
        if self.kind == "list":
            return [value.plain() for value in self.items]
        if self.kind == "number":
            return _number(self.text)
        if self.kind == "truth":
            return self.text.lower() in ("true", "yes", "on")
        return None if self.kind == "nothing" else self.text

    def wrong(self, sentence: str) -> Wrong:
        """The mistake `sentence` about it: `is 12; give at least 128` goes on after its key."""
        return Wrong(f"{self.where}: {self.key} {sentence}" if self.key else f"{self.where}: {sentence}")

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"

    @property
    def told(self) -> str:
        """What is there, for messages: short, and never a secret."""
        if self.kind == "map":
            return "keys and values"
        if self.kind == "list":
            return "a list"
        if names_secret(self.key.rpartition(".")[2]):
            return "a secret"
        if self.kind == "text":
            # A URL may hold a password before its host, and a token in its query.
            told = _USER.sub("://...@", self.text)
            told = f"{told.partition('?')[0]}?..." if "://" in told and "?" in told else told
            return repr(told if len(told) <= 80 else f"{told[:77]}...")
        return self.text[:80] or "nothing"


def read_documents(text: str, file: str) -> list[Value]:
    """The documents of YAML `text`; empty ones are left out.

    Spaces and tabs at the ends of lines go first, as PyYAML stumbles over tabs there that others' parsers let pass.

    Raises:
        InvalidInput: If it is no YAML, or none that a definition can be; with file and line.
    """
    cleaned = "\n".join(line.rstrip(" \t\r") for line in text.split("\n"))
    try:
        nodes = list(yaml.compose_all(cleaned, Loader=yaml.SafeLoader))
        unfolding = _Unfolding(file)
        values = [unfolding.value(node, "", node.start_mark.line + 1) for node in nodes if node is not None]
    except yaml.YAMLError as error:
        raise InvalidInput(_not_yaml(error, file)) from error
    except Wrong as error:
        raise InvalidInput(str(error)) from error
    except RecursionError as error:
        raise InvalidInput(f"{file}: it is nested too deeply for a definition") from error
    return [value for value in values if value.kind != "nothing"]


def read_text(path: Path) -> str:
    """The text of a file that is no larger than a definition or script can be.

    Raises:
        InvalidInput: If it cannot be read, is too large, or is no text.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"{path} cannot be read ({why})") from error
    if len(data) > _LARGEST_BYTES:
        raise InvalidInput(f"{path} is larger than {_LARGEST_BYTES >> 20} MB, which no definition or script is")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no text in UTF-8; byte {error.start + 1} is none") from error


class _Unfolding:
    """Turns the nodes of PyYAML into values, aliases and merges unfolded."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._values = 0
        self._above: list[int] = []

    def value(self, node: yaml.Node, key: str, line: int) -> Value:
        self._values += 1
        where = Value(self._file, line, key, "nothing")
        if self._values > _MOST_VALUES or len(self._above) > _DEEPEST:
            raise where.wrong("holds more than a definition can; are there aliases of aliases?")
        tag = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, tag, key, line)
        if id(node) in self._above:
            raise where.wrong("holds itself")
        if tag not in ("seq", "map"):
            raise where.wrong(f"is tagged {node.tag!r}; use texts, numbers, truth values, lists and maps alone")
        self._above.append(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                items = [
                    self.value(each, f"{key}.{index}" if key else str(index), each.start_mark.line + 1)
                    for index, each in enumerate(node.value)
                ]
                return Value(self._file, line, key, "list", items=tuple(items))
            return Value(self._file, line, key, "map", entries=tuple(self._entries(node, key)))
        finally:
            self._above.pop()

    def _scalar(self, node: yaml.ScalarNode, tag: str, key: str, line: int) -> Value:
        kind: Any = _KINDS.get(tag)
        found = Value(self._file, line, key, kind or "text", text=node.value)
        if kind is None:
            raise found.wrong(f"is tagged {node.tag!r}; use texts, numbers, truth values, lists and maps alone")
        if kind == "number" and _number(node.value) is node.value:
            found = Value(self._file, line, key, "text", text=node.value)
        if not _writable(node.value):
            raise found.wrong("holds a character that no text may have")
        return found

    def _entries(self, node: Any, key: str) -> Iterator[tuple[str, Value]]:
        merged: list[tuple[str, Value]] = []
        own: list[tuple[str, Value]] = []
        for name, each in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode) or not _writable(name.value):
                raise Value(self._file, line, key, "nothing").wrong("has a key that is no text")
            if name.tag == f"{_TAG}merge":
                for one in each.value if isinstance(each, yaml.SequenceNode) else [each]:
                    unfolded = self.value(one, key, line)
                    merged += [entry for entry in unfolded.entries if entry[0] not in {known for known, _ in merged}]
                continue
            own.append((name.value, self.value(each, f"{key}.{name.value}" if key else name.value, line)))
        names = {name for name, _ in own}
        yield from (entry for entry in merged if entry[0] not in names)
        yield from own


def _number(text: str) -> Any:
    """The number that YAML 1.1 reads; the text itself if it is none that JSON has."""
    plain = text.replace("_", "").lower().lstrip("+")
    try:
        if ":" in plain:  # what YAML 1.1 calls sexagesimal, nobody means: ports, times
            return text
        sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain)
        if digits.startswith(("0x", "0b")):
            return sign * int(digits, 0)
        if digits.isdecimal():
            return sign * (int(digits, 8) if digits.startswith("0") and len(digits) > 1 else int(digits))
        return number if math.isfinite(number := float(plain)) else text
    except ValueError:
        return text


def _writable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _not_yaml(error: yaml.YAMLError, file: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{file}:{mark.line + 1}" if mark else file
    # Not the error's own text: it quotes the file, and a secret may stand there.
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
    return f"{place}: not YAML: {problem}"

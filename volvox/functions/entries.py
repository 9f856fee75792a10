"""What is gathered while a file is read: values taken key by key, warnings, mistakes, what could not be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from volvox.errors import InvalidInput
from volvox.functions import secrecy
from volvox.functions.document import Value, Wrong, read_text
from volvox.functions.values import Kind, near, variable, variable_name

T = TypeVar("T")


class Kept(NamedTuple):
    """A key that a function has no field for: it is checked, kept in the settings, and named in a warning.

    Attributes:
        kind: What it may hold.
        does: What it would do and where that counts: `layers of the Lambda function; counts on runtime lambda`.
    """

    kind: Kind[Any]
    does: str


Table = Mapping[str, "Kept | Table"]


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that a definition names and that is not there.

    Attributes:
        function: Whose.
        what: `script` or `image file`.
        path: Where it was looked for.
        message: With file, line and key.
    """

    function: str
    what: str
    path: Path
    message: str


@dataclass
class Reading:
    """A file that is being read.

    Attributes:
        path: The file, absolute.
        warnings: What its owner should know, with file, line and key.
        mistakes: Why it is refused.
        missing: Files that it names and that are not there.
    """

    path: Path
    warnings: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def warn(self, value: Value, sentence: str) -> None:
        """Remember a warning about a value, once."""
        told = str(value.wrong(sentence))
        if told not in self.warnings:
            self.warnings.append(told)

    def tried(self, kind: Kind[T], value: Value, otherwise: T) -> T:
        """`kind(value)`; a mistake is remembered, and `otherwise` stands for it."""
        try:
            return kind(value)
        except Wrong as error:
            self.mistakes.append(str(error))
            return otherwise

    def script(self, value: Value, function: str) -> str:
        """The text of a script: what stands there if that is several lines, else of the file that it names."""
        given = value.text if value.kind == "text" else ""
        if "\n" in given.strip() or given.startswith("#!"):
            return given.replace("\r\n", "\n")
        if not given.strip():
            raise value.wrong(f"is {value.told}; write the path of a script beside this file")
        path = self.beside(given.strip())
        if not path.is_file():
            self.miss(value, function, "script", path)
            return ""
        try:
            script = read_text(path)
        except InvalidInput as error:
            raise value.wrong(f": {error}") from error
        if not script.strip():
            raise value.wrong(f"is {value.told}, which is empty; write what shall be done, or leave the key out")
        return script

    def miss(self, value: Value, function: str, what: str, path: Path) -> None:
        """Remember that the file `path` is not there."""
        told = str(value.wrong(f"is {value.told}, and there is no {path}; put the {what} there"))
        self.missing.append(Missing(function, what, path, told))

    def beside(self, path: str) -> Path:
        """A path of the file, which is relative to it."""
        found = Path(path).expanduser() if path.startswith("~/") else Path(path)
        return self.path.parent / found


class Entries:
    """The keys of a map, taken one by one, so that what is left over can be told."""

    def __init__(self, value: Value, reading: Reading) -> None:
        """Of `value`, which should be a map; nothing is a map without keys."""
        self.value = value
        self.reading = reading
        self._taken: set[str] = set()
        if value.kind not in ("map", "nothing"):
            reading.mistakes.append(str(value.wrong(f"is {value.told}; write keys and values")))
        names = [name.lower() for name, _ in value.entries]
        for name, each in value.entries:
            if names.count(name.lower()) > 1 and each is not value.get(name):
                reading.warn(each, f"stands twice; the last one counts, in line {(value.get(name) or each).line}")

    def get(self, name: str) -> Value | None:
        """The value under `name`, which counts as taken then; None if there is none or nothing stands there."""
        self._taken.add(name.lower())
        found = self.value.get(name)
        return None if found is None or found.kind == "nothing" else found

    def take(self, name: str, kind: Kind[T], otherwise: T) -> T:
        """The value under `name` as `kind` reads it; `otherwise` if there is none."""
        found = self.get(name)
        return otherwise if found is None else self.reading.tried(kind, found, otherwise)

    def need(self, name: str, kind: Kind[T], otherwise: T) -> T:
        """As `take`, but it must be there."""
        found = self.get(name)
        if found is None:
            key = f"{self.value.key}.{name}" if self.value.key else name
            self.reading.mistakes.append(f"{self.value.where}: {key} is missing")
            return otherwise
        return self.reading.tried(kind, found, otherwise)

    def inner(self, name: str) -> Entries:
        """The map under `name`; an empty one if there is none."""
        found = self.get(name)
        return Entries(found or Value(self.value.file, self.value.line, name, "nothing"), self.reading)

    def items(self, name: str) -> tuple[Value, ...]:
        """The list under `name`; a single map stands for a list of it."""
        found = self.get(name)
        return () if found is None else found.items if found.kind == "list" else (found,)

    def rest(self) -> Iterator[tuple[str, Value]]:
        """What was not taken."""
        last = {name.lower(): (name, value) for name, value in self.value.entries}
        yield from (entry for name, entry in last.items() if name not in self._taken)

    def kept(self, table: Table) -> dict[str, Any]:
        """What was not taken, checked, by the names of `table`; each key is named in a warning."""
        names, found = {name.lower(): name for name in table}, {}
        for name, value in self.rest():
            known = names.get(name.lower())
            if known is not None and value.kind == "text" and not value.text.strip():
                continue  # an empty text, as a cluster answers what was never stated
            if known is None:
                self.reading.warn(value, f"is not known{near(name, table)}; it is kept and does nothing here")
                found[name] = sheltered(value, self.reading)
                continue
            about = table[known]
            if isinstance(about, Kept):
                told = self.reading.tried(about.kind, value, None) if value.kind != "nothing" else None
                self.reading.warn(value, f"is kept: {about.does}")
                safe = sheltered(value, self.reading)
                found[known] = safe if told is not None and safe != value.plain() else told
            elif value.kind == "map":
                found[known] = Entries(value, self.reading).kept(about)
            elif value.kind != "nothing":
                self.reading.mistakes.append(str(value.wrong(f"is {value.told}; write keys and values")))
        return {name: value for name, value in found.items() if value not in (None, {})}

    def environment(self, secrets: bool = False) -> dict[str, str]:
        """Variables; what is a secret, or all of them if `secrets`, is kept as where it stands.

        Variables are keys and values; their names count as taken.
        """
        found = {}
        for name, value in self.value.entries:
            self._taken.add(name.lower())
            self.reading.tried(lambda value, name=name: variable_name(name, value), value, "")
            told = self.reading.tried(variable, value, "")
            if value.kind == "list":
                self.reading.warn(value, "is a list of YAML; it is taken for the text that it was, put it in quotes")
            if told and (secrets or secrecy.names_secret(name)) and not secrecy.is_reference(told):
                if not secrets:
                    self.reading.warn(
                        value, "looks like a secret; it is not kept but read again from this file when it is needed; "
                        'save it as a block and write "{{ prefect.blocks.secret.NAME }}"',
                    )  # fmt: skip
                told = secrecy.reference_to(value)
            found[name] = told
        return found


def sheltered(value: Value, reading: Reading) -> Any:
    """Its value as JSON has it, secrets replaced by where they stand."""
    if value.kind == "map":
        return {name: sheltered(each, reading) for name, each in value.entries}
    if value.kind == "list":
        return [sheltered(each, reading) for each in value.items]
    name = next((part for part in reversed(value.key.split(".")) if not part.isdecimal()), "")
    if value.kind == "text" and value.text and secrecy.names_secret(name) and not secrecy.is_reference(value.text):
        reading.warn(value, "looks like a secret; it is not kept but read again from this file when it is needed")
        return secrecy.reference_to(value)
    return value.plain()

"""The static catalogue on disk, whole at every moment: entries and the index appear by a rename.

`<name>` is a link to `.entries/<name>/<digest>`, a folder that is never changed; `index.html` and `catalogue.json` are
made from the entries that lie there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from volvox.catalogue.metadata import placeholder
from volvox.catalogue.page import templates
from volvox.errors import InvalidInput
from volvox.identity import digest_of, file_digest

_ENTRIES = ".entries"
_HERE = Path(__file__).parent
_STATIC = {
    "catalogue.js": _HERE / "static" / "catalogue.js",
    "volvox.css": _HERE.parent / "web" / "static" / "volvox.css",
}
_RESERVED = {"index.html", "catalogue.json", *_STATIC}
_FILTERS = (("tags", "Tag"), ("tasks", "Task"), ("libraries", "Library"))


class Site:
    """The catalogue in a folder."""

    def __init__(self, root: Path) -> None:
        """The catalogue at `root`; nothing is created."""
        self.root = root

    def shows(self, name: str, tree: str) -> bool:
        """Whether the entry `name` is the one with digest `tree`, and the index is up to date."""
        files = (Path(name, "index.html"), *_RESERVED)
        with contextlib.suppress(OSError, ValueError):
            there = all((self.root / file).is_file() for file in files) and (self.root / name).readlink().name == tree
            return there and json.loads((self.root / ".index").read_text()) == self._state()
        return False

    def publish(self, name: str, tree: str, files: Path) -> None:
        """Show the folder `files`, whose digest is `tree`, as the entry `name`, and make the index again.

        Killed at any point, the catalogue shows the entry as it was or as it is to be, and the next call goes on.

        Raises:
            InvalidInput: If the catalogue's own files have that name.
        """
        if name in _RESERVED or name.startswith(".") or "/" in name:
            raise InvalidInput(
                f"a model cannot be called {name!r}, as a file of the catalogue is; give it another --name"
            )
        kept = self.root / _ENTRIES / name
        with self._locked():
            if not (kept / tree).is_dir():
                kept.mkdir(parents=True, exist_ok=True)
                with _aside(kept) as temporary:
                    shutil.copytree(files, temporary, dirs_exist_ok=True)
                    temporary.chmod(0o755)
                    temporary.rename(kept / tree)
            _link(self.root / name, Path(_ENTRIES, name, tree))
            for old in kept.iterdir():
                if old.name != tree:
                    shutil.rmtree(old, ignore_errors=True)
            self._write_index()

    def entries(self) -> list[dict[str, Any]]:
        """What the catalogue lists, by name; an entry that cannot be read is a placeholder with the reason."""
        found = sorted(self.root.iterdir()) if self.root.is_dir() else []
        return [_read(path) for path in found if path.is_dir() and not path.name.startswith(".")]

    def rebuild(self) -> None:
        """Make the index again from the entries that lie there."""
        with self._locked():
            self._write_index()

    # -- inside --------------------------------------------------------------------------------------------------

    def _write_index(self) -> None:
        entries = self.entries()
        page = templates().get_template("index.html").render(
            entries=entries, css="volvox.css", catalogue="./",
            filters=[(key, label, words) for key, label in _FILTERS if (words := _words(entries, key))],
        )  # fmt: skip
        for name, source in _STATIC.items():
            _write(self.root / name, source.read_bytes())
        _write(self.root / "catalogue.json", json.dumps(entries, indent=1, ensure_ascii=False).encode())
        _write(self.root / "index.html", page.encode())
        _write(self.root / ".index", json.dumps(self._state()).encode())

    def _state(self) -> dict[str, str]:
        """What the index was made from: each entry's digest, and our own templates and scripts."""
        links = {path.name: path.readlink().name for path in self.root.iterdir() if path.is_symlink()}
        return links | {".made": looks()}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            for left in self.root.glob(".incoming-*"):  # by a process that was killed: nobody else writes here now
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield


def looks() -> str:
    """Digest of what gives the catalogue its looks: templates, scripts and style."""
    sources = [*sorted((_HERE / "templates").iterdir()), *_STATIC.values(), _HERE.parent / "web/templates/base.html"]
    return digest_of([file_digest(path) for path in sources])


def _read(path: Path) -> dict[str, Any]:
    try:
        entry = json.loads((path / "entry.json").read_text(encoding="utf-8"))
        told = entry["metadata"]
        if entry["name"] != path.name or not isinstance(told, dict) or not (path / "index.html").is_file():
            raise ValueError("it does not belong here")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"The entry cannot be read ({type(error).__name__}: {error}); run its cycle again."
        return {"name": path.name, "path": "", "metadata": placeholder(path.name, reason)}
    return {"name": path.name, "path": f"{path.name}/", "metadata": told}


def _words(entries: list[dict[str, Any]], key: str) -> list[str]:
    said = (entry["metadata"].get(key) for entry in entries)
    return sorted({str(word) for words in said if isinstance(words, list) for word in words}, key=str.lower)


def _write(path: Path, data: bytes) -> None:
    with contextlib.suppress(OSError):
        if path.read_bytes() == data:
            return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".incoming-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _link(path: Path, target: Path) -> None:
    if path.is_symlink() and path.readlink() == target:
        return
    with _aside(path.parent) as temporary:
        (temporary / "link").symlink_to(target)
        (temporary / "link").replace(path)


@contextlib.contextmanager
def _aside(parent: Path) -> Iterator[Path]:
    """A new folder beside what is to be replaced; what is left of it afterwards is removed."""
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=".incoming-"))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

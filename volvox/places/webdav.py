"""A WebDAV server, dCache's and Nextcloud's among them.

Source: RFC 4918.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.places.addresses import Address
from volvox.places.asking import Server, Waits, blocks_of
from volvox.places.credentials import Login
from volvox.places.interface import Found
from volvox.places.keys import INCOMING, checked, hidden, shown
from volvox.places.walking import walk

if TYPE_CHECKING:
    import httpx

_PROPERTIES = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/>'
    b"<getlastmodified/><getetag/></prop></propfind>"
)
_TRIES = 3
_MISREAD = frozenset("?#%;")  # some servers take a quoted one in `Destination` for what it is in a URL


class WebDav:
    """Files of a WebDAV server, the path of a URL being the key.

    A file is known by etag, time of change and size, as the server lists it. It is written under a name that is not
    listed, and moved, which the server does in one step.
    """

    def __init__(self, address: Address, login: Login, waits: Waits | None = None) -> None:
        self.url = address.root
        self._server = Server(address.server, self.url, login, waits)

    def __repr__(self) -> str:
        return f"WebDav({self.url!r})"

    def find(self, key: str, version: str = "") -> Found | None:
        """The file under `key`, see `Place.find`."""
        key = checked(key)
        for _, found in self._listed(key, depth=0):
            if found is not None and version in ("", found.version):
                return found
        return None

    def list(self, prefix: str = "", after: str = "") -> Iterator[Found]:
        """Every file in the order of keys, see `Place.list`; one folder's names are held in memory at a time."""
        for key, found in walk(self._children, prefix, after):
            if not hidden(key):
                yield found

    def fetch(self, key: str, target: Path, version: str = "") -> Found:
        """Download the file, see `Place.fetch`; one that changes meanwhile is told as Unavailable."""
        key = checked(key)
        before = self.find(key)
        if before is None:
            raise NotFound(f"there is no {shown(key)} in {self.url}")
        if version not in ("", before.version):
            raise NotFound(f"{shown(key)} in {self.url} is not any more what it was; it has been written anew")
        try:
            with telling_full_disks(target.parent):
                size = self._server.fetch(_path(key), target)
            if size is None:
                raise NotFound(f"there is no {shown(key)} in {self.url}")
            if size != before.size or self.find(key) != before:
                raise Unavailable(f"{shown(key)} in {self.url} changed while it was read; it will be read again")
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return before

    def put(self, key: str, source: Path, *, content_type: str = "", once: bool = True) -> bool:
        """Upload the file, see `Place.put`; one step of the server looks and writes."""
        key = checked(key)
        if once and self.find(key) is not None:
            return False
        temporary = f"{key[: key.rfind('/') + 1]}{INCOMING}{uuid.uuid4().hex[:16]}"
        moved = False
        try:
            self._upload(temporary, source, content_type)
            moved = self._move(temporary, key, once=once)
            return moved
        finally:
            if not moved:
                with contextlib.suppress(VolvoxError):
                    self._server.ask("DELETE", _path(temporary))

    def remove(self, key: str) -> bool:
        """Delete the file, see `Place.remove`."""
        key = checked(key)
        if self.find(key) is None:  # which a folder would be removed with all that is in it
            return False
        answer = self._server.ask("DELETE", _path(key))
        if answer.status_code != 404 and not answer.is_success:
            raise self._server.refused(answer)
        return True

    # -- inside --------------------------------------------------------------------------------------------------

    def _children(self, folder: str, _begin: str) -> Iterator[tuple[str, Found | None]]:
        found = sorted(self._listed(folder, depth=1), key=lambda one: one[0])
        yield from ((name, known) for name, known in found if name)

    def _listed(self, key: str, *, depth: int) -> Iterator[tuple[str, Found | None]]:
        """Name (empty for what was asked for) and what is known, None for a folder, of each answer."""
        headers = {"Depth": str(depth), "Content-Type": "application/xml"}
        answer = self._server.ask("PROPFIND", _path(key), headers=headers, body=_PROPERTIES)
        if answer.status_code == 404:
            return
        if answer.status_code != 207:
            raise self._server.refused(answer)
        asked = _path(key)
        folder = key if depth else ""
        try:
            for one in ElementTree.fromstring(answer.content).iter("{DAV:}response"):  # noqa: S314 - expat has limits
                href = urlsplit((one.findtext("{DAV:}href") or "").strip()).path
                itself = unquote(href).rstrip("/") == unquote(asked).rstrip("/")
                name = "" if itself else unquote(href.rstrip("/").rpartition("/")[2])
                if depth and not itself and not _is_name(folder, name):
                    continue
                yield name, _told(one, key if itself else folder + name)
        except ElementTree.ParseError:
            raise Unavailable(f"{self.url} does not answer as a WebDAV server does; check the address") from None

    def _upload(self, key: str, source: Path, content_type: str) -> None:
        headers = {
            "Content-Length": str(source.stat().st_size),
            "Content-Type": content_type or "application/octet-stream",
        }
        for tries_left in (1, 0):
            answer = self._server.ask("PUT", _path(key), headers=headers, body=blocks_of(source))
            if answer.is_success:
                return
            if answer.status_code not in (404, 409) or not tries_left:
                raise self._server.refused(answer)
            self._make(key.rpartition("/")[0])

    def _make(self, folder: str) -> None:
        """Make a folder, and those above it that are missing."""
        if not folder:
            return
        answer = self._server.ask("MKCOL", _path(folder + "/"))
        if answer.status_code in (404, 409):
            self._make(folder.rpartition("/")[0])
            answer = self._server.ask("MKCOL", _path(folder + "/"))
        if not answer.is_success and answer.status_code != 405:  # it is there
            raise self._server.refused(answer)

    def _move(self, source: str, target: str, *, once: bool) -> bool:
        """Give what was uploaded its name; False if `once` and the name is taken."""
        headers = {"Destination": self._server.url + _path(target), "Overwrite": "F" if once else "T"}
        for tries_left in reversed(range(_TRIES)):
            answer: httpx.Response | None = None
            try:
                answer = self._server.ask("MOVE", _path(source), headers=headers, again=False)
            except Unavailable:
                if self.find(source) is None and self.find(target) is not None:
                    return True  # nobody else knows of the source: it was us, and the answer was lost
                if not tries_left:
                    raise
                continue
            if answer.is_success:
                if _MISREAD & set(target) and self.find(target) is None:
                    raise InvalidInput(f"{self.url} misreads the name {shown(target)}; use letters and digits")
                return True
            if answer.status_code == 412:
                return False
            raise self._server.refused(answer)
        raise AssertionError


def _path(key: str) -> str:
    return "/" + quote(key)


def _is_name(folder: str, name: str) -> bool:
    try:
        return bool(checked(folder + name))
    except VolvoxError:
        return False


def _told(response: ElementTree.Element, key: str) -> Found | None:
    told: dict[str, ElementTree.Element] = {}
    for part in response.iter("{DAV:}propstat"):
        if " 200" in (part.findtext("{DAV:}status") or " 200"):
            told |= {one.tag: one for prop in part.iter("{DAV:}prop") for one in prop}
    kind = told.get("{DAV:}resourcetype")
    if kind is not None and kind.find("{DAV:}collection") is not None:
        return None

    def text(name: str) -> str:
        found = told.get(f"{{DAV:}}{name}")
        return (found.text or "").strip() if found is not None else ""

    size = int(text("getcontentlength") or 0)
    try:
        modified = parsedate_to_datetime(text("getlastmodified")).timestamp()
    except ValueError:
        modified = 0.0
    return Found(key, f"{text('getetag')}@{modified:.0f}-{size}", size, modified)

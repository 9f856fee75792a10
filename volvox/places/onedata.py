"""A space of Onedata, as EGI DataHub has them, asked at one of its Oneproviders.

Source: the REST API of Oneprovider (`/api/v3/oneprovider`) and CDMI 1.1.1, as `onedatafilerestclient` 25.2 uses them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from volvox.disks import telling_full_disks
from volvox.errors import AccessRefused, NotFound, PlaceGone, Unavailable, VolvoxError
from volvox.places.addresses import Address
from volvox.places.asking import Server, Waits, blocks_of
from volvox.places.credentials import Login
from volvox.places.interface import Found
from volvox.places.keys import INCOMING, checked, hidden, shown
from volvox.places.walking import walk

if TYPE_CHECKING:
    import httpx

_API = "/api/v3/oneprovider"
_PAGE = 1000
_TRIES = 3
_CAMEL_CASE_SINCE = [21, 2, 5]  # releases that name attributes so, and are asked for them in a body
_GONE = ("enoent", "enotdir")


class Onedata:
    """Files of a space.

    A file is known by its id, time of change and size. It is written under a name that is not listed, and moved; a
    move puts aside what has the name already, so that who puts `once` looks just before, which is not one step.
    """

    def __init__(self, address: Address, login: Login, waits: Waits | None = None) -> None:
        self.url = address.root
        self.space = address.name
        self._server = Server(address.server, self.url, login, waits, header="X-Auth-Token")
        self._camel_case: bool | None = None

    def __repr__(self) -> str:
        return f"Onedata({self.url!r})"

    def find(self, key: str, version: str = "") -> Found | None:
        """The file under `key`, see `Place.find`."""
        found, _ = self._found(checked(key))
        return found if found and version in ("", found.version) else None

    def list(self, prefix: str = "", after: str = "") -> Iterator[Found]:
        """Every file in the order of keys, see `Place.list`."""
        for key, found in walk(self._children, prefix, after):
            if not hidden(key):
                yield found

    def fetch(self, key: str, target: Path, version: str = "") -> Found:
        """Download the file, see `Place.fetch`; one that changes meanwhile is told as Unavailable."""
        key = checked(key)
        before, identifier = self._found(key)
        if before is None:
            raise NotFound(f"there is no {shown(key)} in {self.url}")
        if version not in ("", before.version):
            raise NotFound(f"{shown(key)} in {self.url} is not any more what it was; it has been written anew")
        try:
            with telling_full_disks(target.parent):
                size = self._server.fetch(f"{_API}/data/{identifier}/content", target)
            if size is None:
                raise NotFound(f"there is no {shown(key)} in {self.url}")
            if size != before.size or self.find(key) != before:
                raise Unavailable(f"{shown(key)} in {self.url} changed while it was read; it will be read again")
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return before

    def put(self, key: str, source: Path, *, content_type: str = "", once: bool = True) -> bool:
        """Upload the file, see `Place.put`; the media type is kept nowhere."""
        del content_type
        key = checked(key)
        if once and self.find(key) is not None:
            return False
        temporary = f"{key[: key.rfind('/') + 1]}{INCOMING}{uuid.uuid4().hex[:16]}"
        moved = False
        try:
            self._upload(temporary, source)
            if not (once and self.find(key) is not None):
                self._move(temporary, key)
                moved = True
            return moved
        finally:
            if not moved:
                with contextlib.suppress(VolvoxError):
                    self._remove(temporary)

    def remove(self, key: str) -> bool:
        """Delete the file, see `Place.remove`."""
        key = checked(key)
        return self.find(key) is not None and self._remove(key)

    # -- inside --------------------------------------------------------------------------------------------------

    def _found(self, key: str) -> tuple[Found | None, str]:
        identifier = self._identifier(key)
        if not identifier:
            return None, ""
        told = self._json(self._server.ask("GET", f"{_API}/data/{identifier}"))
        return (_told(told, key), identifier) if told is not None else (None, "")

    def _identifier(self, key: str) -> str:
        """The id of a file or folder; empty if there is none.

        Raises:
            PlaceGone: If there is no such space.
        """
        path = quote(f"{self.space}/{key}".rstrip("/"))
        told = self._json(self._server.ask("POST", f"{_API}/lookup-file-id/{path}"))
        if told is not None:
            return str(told["fileId"])
        if key:
            self._identifier("")  # the file is missing, or all of the space
            return ""
        raise PlaceGone(f"there is no space {self.space!r} for this token at {self.url}; check its name, and the token")

    def _children(self, folder: str) -> Iterator[tuple[str, Found | None]]:
        identifier = self._identifier(folder.rstrip("/"))
        token = ""
        while identifier:
            page = self._page(identifier, token)
            for one in page.get("children", ()):
                kind, name = one.get("type"), str(one.get("name", ""))
                if kind in ("DIR", "REG") and _is_name(folder, name):
                    yield name, None if kind == "DIR" else _told(one, folder + name)
            token = str(page.get("nextPageToken") or "")
            if page.get("isLast", not token) or not token:
                return

    def _page(self, identifier: str, token: str) -> dict[str, Any]:
        asked: list[tuple[str, str]] = [("limit", str(_PAGE))]
        if token:
            asked.append(("token", token))
        body = b""
        if self._is_camel_case():
            body = json.dumps({"attributes": ["name", "type", "size", "mtime", "fileId"]}).encode()
        else:
            asked += [("attribute", name) for name in ("name", "type", "size", "mtime", "file_id")]
        path = f"{_API}/data/{identifier}/children?{urlencode(asked)}"
        return self._json(self._server.ask("GET", path, headers={"Content-Type": "application/json"}, body=body)) or {}

    def _is_camel_case(self) -> bool:
        if self._camel_case is None:
            told = self._json(self._server.ask("GET", f"{_API}/configuration")) or {}
            numbers = [int(one) for one in re.findall(r"\d+", str(told.get("version", "")))]
            self._camel_case = numbers[:3] >= _CAMEL_CASE_SINCE
        return self._camel_case

    def _upload(self, key: str, source: Path) -> None:
        root = self._identifier("")
        path = f"{_API}/data/{root}/path/{quote(key)}?type=REG&create_parents=true"
        answer = self._server.ask("PUT", path)
        if _errno(answer) == "eexist":  # made by a request whose answer was lost
            identifier = self._identifier(key)
        else:
            identifier = str((self._json(answer) or {}).get("fileId", ""))
        if not identifier:
            raise Unavailable(f"{self.url} did not make {shown(key)}; it will be tried again")
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(source.stat().st_size)}
        path = f"{_API}/data/{identifier}/content"
        self._json(self._server.ask("PUT", path, headers=headers, body=blocks_of(source)))

    def _move(self, source: str, target: str) -> None:
        headers = {"X-CDMI-Specification-Version": "1.1.1", "Content-Type": "application/cdmi-object"}
        body = json.dumps({"move": f"{self.space}/{source}"}).encode()
        path = "/cdmi/" + quote(f"{self.space}/{target}")
        for tries_left in reversed(range(_TRIES)):
            try:
                answer = self._server.ask("PUT", path, headers=headers, body=body, again=False)
            except Unavailable:
                if self.find(source) is None and self.find(target) is not None:
                    return  # nobody else knows of the source: it was us, and the answer was lost
                if not tries_left:
                    raise
                continue
            if not answer.is_success:
                raise self._server.refused(answer)
            return

    def _remove(self, key: str) -> bool:
        identifier = self._identifier(key)
        if not identifier:
            return False
        self._json(self._server.ask("DELETE", f"{_API}/data/{identifier}"))
        return True

    def _json(self, answer: httpx.Response) -> dict[str, Any] | None:
        """What an answer says; None if it says that there is no such thing."""
        if answer.status_code == 404 or _errno(answer) in _GONE:
            return None
        if _errno(answer) in ("eacces", "eperm"):
            raise AccessRefused(f"the token for {self.url} does not allow this; give one that may read and write there")
        if _errno(answer) in ("enospc", "edquot"):
            raise Unavailable(f"the space of {self.url} is full; free some of it")
        if not answer.is_success:
            raise self._server.refused(answer)
        try:
            told = answer.json() if answer.content else {}
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise Unavailable(f"{self.url} does not answer as an Oneprovider does; check the address")
        return told


def _errno(answer: httpx.Response) -> str:
    """The name of a POSIX error in the answer, or empty."""
    if answer.is_success:
        return ""
    try:
        return str(answer.json()["error"]["details"]["errno"]).lower()
    except (ValueError, KeyError, TypeError):
        return ""


def _is_name(folder: str, name: str) -> bool:
    try:
        return "/" not in name and bool(checked(folder + name))
    except VolvoxError:
        return False


def _told(told: dict[str, Any], key: str) -> Found | None:
    if told.get("type", "REG") not in ("REG", "reg"):
        return None
    identifier = str(told.get("fileId") or told.get("file_id") or "")
    size, modified = int(told.get("size") or 0), float(told.get("mtime") or 0)
    short = hashlib.sha256(identifier.encode()).hexdigest()[:16]
    return Found(key, f"{short}@{modified:.0f}-{size}", size, modified)

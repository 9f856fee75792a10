"""A bucket that speaks S3."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from volvox.buckets import BODIES, QUICK, Access, Bucket, NoBucket, Patience, Unsupported
from volvox.buckets.listing import Listed, listed
from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, NotFound, PlaceGone, Unavailable
from volvox.places.addresses import Address
from volvox.places.interface import Found
from volvox.places.keys import INCOMING, checked, hidden, shown

if TYPE_CHECKING:
    from obstore import ObjectMeta

_MARK = "volvox-put"
_IN_ONE_REQUEST = 32 << 20
_SMALL = 1 << 20
_SOON = Patience(connect=3, request=20, silence=10, retries=2)
_TRIES = 3

_asking = threading.Lock()
_heeding: dict[tuple[str, str], bool] = {}  # of address and server, for the time of this process


class S3Place:
    """Objects of a bucket.

    An object is known by its version id in a bucket with versions; else by its etag and the second in which it was
    written, as bucket and object both tell them. Keys that end in `/`, which some tools make to show a folder, are no
    files and left out, and so is what obstore cannot name (keys with empty parts or control characters).
    """

    def __init__(self, address: Address, access: Access, patience: Patience | None = None) -> None:
        """Name the place; nothing is asked yet.

        Args:
            address: Of kind `s3`.
            access: How it is reached.
            patience: How long requests are waited for; none: by their size.
        """
        self.url = address.root
        self.bucket = Bucket(f"s3://{address.name}", access, called="place")
        self._patience = patience

    def __repr__(self) -> str:
        return f"S3Place({self.url!r})"

    def find(self, key: str, version: str = "") -> Found | None:
        """The object now, or one version of it, see `Place.find`."""
        key = checked(key)
        wanted = _version_id(version)
        with _telling():
            meta = self.bucket.head(key, wanted)
        if meta is None:
            return None
        found = _of(key, meta)
        return found if wanted or version in ("", "null", found.version) else None

    def list(self, prefix: str = "", after: str = "") -> Iterator[Found]:
        """Every object in the order of keys, see `Place.list`."""
        with _telling():
            for one in listed(self.bucket, prefix, after, self._patience or QUICK):
                if not hidden(one.key) and _is_a_file(one.key):
                    yield _found(one)

    def fetch(self, key: str, target: Path, version: str = "") -> Found:
        """Download the object, see `Place.fetch`."""
        key = checked(key)
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._fetch(key, target, version)
            except Unavailable:
                if not tries_left:
                    raise
        raise AssertionError

    def put(self, key: str, source: Path, *, content_type: str = "", once: bool = True) -> bool:
        """Upload the file, see `Place.put`; in one step with looking up to 32 MB, where the server heeds conditions.

        Each write leaves a mark beside the object, by which one whose answer was lost is known again.
        """
        key = checked(key)
        mark = uuid.uuid4().hex
        attributes = {_MARK: mark, **({"Content-Type": content_type} if content_type else {})}
        for tries_left in reversed(range(_TRIES)):
            try:
                with _telling():
                    return self._put(key, source, attributes, once=once)
            except Unavailable:
                with contextlib.suppress(Unavailable):
                    if self._is_mine(key, mark):
                        return True
                if not tries_left:
                    raise
                time.sleep(random.uniform(0.2, 0.8))  # noqa: S311 - so that two who write at one moment part
        raise AssertionError

    def remove(self, key: str) -> bool:
        """Delete the object, see `Place.remove`; of one with versions the older ones stay."""
        key = checked(key)
        with _telling():
            if self.bucket.head(key) is None:
                return False
            self.bucket.delete([key])
        return True

    # -- inside --------------------------------------------------------------------------------------------------

    def _fetch(self, key: str, target: Path, version: str) -> Found:
        wanted = _version_id(version)
        try:
            with _telling(), telling_full_disks(target.parent), target.open("wb") as stream:
                meta = self.bucket.download(key, stream.write, wanted, self._patience or BODIES)
                written = stream.tell()
            if meta is None:
                raise NotFound(f"there is no {shown(key)} in {self.url}" + (", or no such version" if version else ""))
            found = _of(key, meta)
            if not wanted and version not in ("", "null", found.version):
                raise NotFound(f"{shown(key)} in {self.url} is not any more what it was; it has been written anew")
            if written != found.size:
                raise Unavailable(f"{shown(key)} in {self.url} broke off while it was read; it will be read again")
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return found

    def _put(self, key: str, source: Path, attributes: dict[str, str], *, once: bool) -> bool:
        size = source.stat().st_size
        patience = self._patience or (_SOON if size <= _SMALL else BODIES)
        if once and size <= _IN_ONE_REQUEST and self._is_conditional(key):
            written = self.bucket.create(key, source.read_bytes(), attributes, patience)
            return written or self._is_mine(key, attributes[_MARK])
        if once and (there := self.bucket.attributes(key)) is not None:
            return there.get(_MARK) == attributes[_MARK]
        self.bucket.upload(key, source, size, attributes, patience)
        return True

    def _is_mine(self, key: str, mark: str) -> bool:
        return (self.bucket.attributes(key) or {}).get(_MARK) == mark

    def _is_conditional(self, key: str) -> bool:
        """Whether the server heeds `If-None-Match: *`; it is asked once, by an object that nobody looks at."""
        known = (self.bucket.address, self.bucket.server)
        with _asking:
            if known not in _heeding:
                folder = key[: key.rfind("/") + 1]
                probe = f"{folder}{INCOMING}{uuid.uuid4().hex[:16]}"
                try:
                    self.bucket.create(probe, b"")
                    _heeding[known] = not self.bucket.create(probe, b"")
                except Unsupported:
                    _heeding[known] = False
                finally:
                    with contextlib.suppress(InvalidInput, Unavailable):
                        self.bucket.delete([probe])
            return _heeding[known]


def _version_id(version: str) -> str:
    """The store's own version id in what names a version, or empty."""
    return "" if "@" in version or version == "null" else version


def _found(one: Listed) -> Found:
    second = int(one.modified)  # of an object alone no more is told than that
    version = one.version if one.version not in ("", "null") else f"{one.etag}@{second}"
    return Found(one.key, version, one.size, float(second))


def _of(key: str, meta: ObjectMeta) -> Found:
    etag, modified = (meta["e_tag"] or "").strip('"'), meta["last_modified"].timestamp()
    return _found(Listed(key, etag, modified, meta["size"], meta["version"] or ""))


def _is_a_file(key: str) -> bool:
    try:
        checked(key)
    except InvalidInput:
        return False
    return True


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except NoBucket as error:
        raise PlaceGone(str(error)) from None

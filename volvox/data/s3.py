"""Archives and folders in a bucket that speaks S3; addresses and keys come from the environment's AWS variables."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from volvox import progress
from volvox.buckets import connect, reason
from volvox.cancelling import Cancelled
from volvox.data.download import MOST_BYTES, Facts
from volvox.data.folder import MOST_FILES
from volvox.disks import require_space, telling_full_disks
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.identity import digest_of

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import S3Store

_AT_ONCE = 16


class BucketObject:
    """One object of a bucket: `s3://bucket/key`, or one version of it: `s3://bucket/key?versionId=...`."""

    def __init__(self, address: str) -> None:
        """Name the object; nothing is asked yet."""
        self.address = self.shown = address
        named, self.version = versioned(address)
        self.bucket, self.key = parsed(named)

    def facts(self) -> Facts:
        """What the bucket says of it."""
        with _telling(self.shown):
            return _facts(self._get(head=True).meta)

    @contextlib.contextmanager
    def reading(self, start: int, facts: Facts) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Its bytes from `start` on, if it is still what `facts` says."""
        with _telling(self.shown):
            answer = self._get(range={"offset": start}) if start else self._get()
            if _facts(answer.meta) != facts:
                raise Unavailable(f"{self.shown} changed while it was fetched; run the same command again")
            yield start, (bytes(block) for block in answer.stream(min_chunk_size=1 << 20))

    def _get(self, **options: Any) -> GetResult:
        import obstore

        asked = {**options, **({"version": self.version} if self.version else {})}
        return obstore.get(connect(self.bucket), self.key, options=asked)  # pyright: ignore[reportArgumentType]


class BucketFolder:
    """All objects of a bucket whose keys begin alike: `s3://bucket/prefix/`."""

    def __init__(self, address: str) -> None:
        """Name the folder; nothing is asked yet."""
        self.address = self.shown = address
        self.bucket, self.prefix = parsed(address)
        self._objects: list[ObjectMeta] | None = None

    def objects(self) -> list[ObjectMeta]:
        """Its objects, listed once.

        Raises:
            NotFound: If there are none.
            InvalidInput: If there are too many, or one has a key that is no path below the prefix.
        """
        if self._objects is not None:
            return self._objects
        import obstore

        found: list[ObjectMeta] = []
        with _telling(self.shown):
            for some in obstore.list(connect(self.bucket), prefix=self.prefix.rstrip("/") or None):
                found += (one for one in some if one["size"] or not one["path"].endswith("/"))
                if len(found) > MOST_FILES:
                    raise InvalidInput(f"{self.shown} holds more than {MOST_FILES:,} objects")
        if not found:
            raise NotFound(f"there is nothing at {self.shown}; check the bucket and the prefix")
        if (total := sum(one["size"] for one in found)) > MOST_BYTES:
            raise InvalidInput(f"{self.shown} has {total:,} bytes; at most {MOST_BYTES:,} are fetched")
        self._objects = sorted(found, key=lambda one: one["path"])
        return self._objects

    def fingerprint(self) -> str:
        """Changes when an object is added, removed or written."""
        told = [[one["path"], one["size"], one["e_tag"] or str(one["last_modified"])] for one in self.objects()]
        return digest_of([self.address, told])

    def fetch(self, folder: Path, cancelled: threading.Event) -> None:
        """Write the objects below `folder`, under their keys without the prefix; what is there already stays."""
        objects, store = self.objects(), connect(self.bucket)
        missing = [(one, target) for one in objects if not (target := self._target(folder, one)).is_file()]
        require_space(folder, sum(one["size"] for one, _ in missing), f"fetching {self.shown}")
        done = len(objects) - len(missing)
        with telling_full_disks(folder), _telling(self.shown), ThreadPoolExecutor(_AT_ONCE, "fetch") as workers:

            def fetch(one: ObjectMeta, target: Path) -> None:
                if not cancelled.is_set():
                    _fetch(store, one, target, cancelled)

            for _ in workers.map(lambda pair: fetch(*pair), missing):
                done += 1
                if cancelled.is_set():
                    raise Cancelled
                if done % 20 == 0 or done == len(objects):
                    progress.advance(done, len(objects), "objects")

    def _target(self, folder: Path, one: ObjectMeta) -> Path:
        key = one["path"][len(self.prefix.rstrip("/")) :].lstrip("/")
        path = PurePosixPath(key)
        if not path.parts or ".." in path.parts:
            raise InvalidInput(f"the object {one['path']!r} of bucket {self.bucket} has a key that is no path")
        return folder.joinpath(*path.parts)


def versioned(address: str) -> tuple[str, str]:
    """`s3://bucket/key` and the version id that follows it, or an empty one.

    Only `?versionId=` at the very end counts: a key may hold a question mark.
    """
    found = re.fullmatch(r"(.*[^/])\?versionId=([^?&/]*)", address, re.DOTALL)
    return (found[1], unquote(found[2])) if found else (address, "")


def parsed(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`.

    Raises:
        InvalidInput: If the bucket is missing, or the key of what does not end in `/`.
    """
    parts = urlsplit(address)
    bucket, key = parts.netloc, address.partition(parts.netloc)[2].lstrip("/") if parts.netloc else ""
    if not bucket or not (key or address.endswith("/")):
        raise InvalidInput(f"{address!r} names no object; give s3://BUCKET/archive.zip, or s3://BUCKET/folder/")
    return bucket, key


def _fetch(store: S3Store, one: ObjectMeta, target: Path, cancelled: threading.Event) -> None:
    import obstore

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as stream:
        for block in obstore.get(store, one["path"]).stream(min_chunk_size=1 << 20):
            if cancelled.is_set():
                raise Cancelled
            stream.write(block)
    if part.stat().st_size != one["size"]:
        raise Unavailable(f"the object {one['path']} changed while it was fetched; run the same command again")
    part.replace(target)


def _facts(meta: ObjectMeta) -> Facts:
    return Facts(meta["size"], meta["version"] or meta["e_tag"] or str(meta["last_modified"]))


@contextlib.contextmanager
def _telling(address: str) -> Iterator[None]:
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    # The library's own errors are not chained: they quote the server's answer, which may quote a session token.
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"{address} is not there; check the bucket and the key") from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise InvalidInput(
            f"{address} may not be read with these credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except BaseError as error:
        raise Unavailable(
            f"{address} cannot be fetched ({reason(str(error))}); check AWS_ENDPOINT_URL and try again"
        ) from None

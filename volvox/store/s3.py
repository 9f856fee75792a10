"""The store in a bucket that speaks S3; what was fetched lies in this machine's cache."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from volvox.buckets import Access, Bucket
from volvox.disks import require_space, telling_full_disks
from volvox.errors import NotFound, VolvoxError
from volvox.identity import digest_of
from volvox.store.interface import Lock, Store, checkpoints_name, lock_name, object_name
from volvox.store.lease import Lease, Leases
from volvox.store.mirror import Mirror

_RECORD = 64 << 10
_LAST_UPLOAD_SECONDS = 120.0
_LAST_UPLOAD_SECONDS_CANCELLED = 8.0  # whoever cancels waits no longer before everything is killed


class S3Store(Store):
    """A content-addressed store at `s3://bucket/prefix`."""

    def __init__(self, address: str, cache: Path, access: Access | None = None) -> None:
        """Open the store; nothing is asked yet, and neither bucket nor prefix is created.

        Raises:
            InvalidInput: If the address names no bucket, or the access is incomplete.
        """
        self.bucket = Bucket(address, access)
        super().__init__(self.bucket.address, cache, cache / "incoming")
        self._leases = Leases(self.bucket)
        self._held: dict[str, Lease] = {}

    def path(self, digest: str) -> Path:
        """Where the bytes lie in the cache; fetched and checked the first time.

        Raises:
            NotFound: If the store does not hold them.
            VolvoxError: If it holds other bytes under that name.
            Unavailable: If the server does not answer.
        """
        kept = self._cached(digest)
        if not kept.is_file():
            with self._incoming() as temporary:
                self._fetch(digest, temporary)
                self._keep(temporary, digest)
        return kept

    def has(self, digest: str) -> bool:
        """Whether the store holds the bytes of `digest`; it is asked each time."""
        return self.bucket.head(object_name(digest)) is not None

    def keys(self, stage: str) -> list[str]:
        """The keys of all records of `stage`, sorted."""
        names = (one["path"].rpartition("/")[2] for one in self.bucket.list(f"records/{stage}"))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def try_lock(self, stage: str, key: str) -> Lock | None:
        """Take the lock, which is a lease; see `volvox.store.lease`."""
        lease = self._leases.take(lock_name(stage, key))
        if lease is not None:
            self._held[key] = lease
        return lease

    @contextlib.contextmanager
    def checkpoints(self, key: str) -> Iterator[Path]:
        """A local folder that begins with what is kept below `checkpoints/<key>/`, and is kept there while it is used.

        Once the lock of `key` is lost nothing more is kept: another may have gone on.
        """
        lease = self._held.get(key)
        folder = self._checkpoints(key)
        with telling_full_disks(self.cache):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            mirror = Mirror(self.bucket, checkpoints_name(key), folder, lambda: not (lease and lease.lost))
            try:
                mirror.fetch()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        mirror.start()
        seconds = _LAST_UPLOAD_SECONDS_CANCELLED
        try:
            yield folder
            seconds = _LAST_UPLOAD_SECONDS
        except Exception:
            seconds = _LAST_UPLOAD_SECONDS
            raise
        finally:
            if mirror.finish(seconds):
                shutil.rmtree(folder, ignore_errors=True)

    def drop_checkpoints(self, key: str) -> None:
        """Remove them from the bucket, and from this machine."""
        shutil.rmtree(self._checkpoints(key), ignore_errors=True)
        self.bucket.delete([one["path"] for one in self.bucket.list(checkpoints_name(key))])

    # -- inside --------------------------------------------------------------------------------------------------

    def _get(self, name: str) -> bytes | None:
        found = self.bucket.get(name)
        return None if found is None else found[0]

    def _put(self, name: str, data: bytes) -> None:
        if len(data) <= _RECORD:  # so soon written that a server which does not answer is told in seconds
            self.bucket.put(name, data)
        else:
            self.bucket.upload(name, data, len(data))

    def _admit(self, temporary: Path, digest: str) -> None:
        if not self.has(digest):
            self.bucket.upload(object_name(digest), temporary, temporary.stat().st_size)
        self._keep(temporary, digest)

    @contextlib.contextmanager
    def _reading(self, digest: str) -> Iterator[Path]:
        if (kept := self._cached(digest)).is_file():
            yield kept
            return
        with self._incoming() as temporary:  # a tree is kept unpacked, not twice
            self._fetch(digest, temporary)
            yield temporary

    def _fetch(self, digest: str, target: Path) -> None:
        facts = self.bucket.head(object_name(digest))
        if facts is None:
            raise self._not_held(digest)
        require_space(target.parent, facts["size"], f"object {digest[:12]} of the store at {self.address}")
        found = hashlib.sha256()
        with target.open("wb") as stream:

            def take(block: bytes) -> None:
                found.update(block)
                stream.write(block)

            if not self.bucket.download(object_name(digest), take):
                raise self._not_held(digest)
        if found.hexdigest() != digest:
            raise VolvoxError(
                f"object {digest[:12]} of the store at {self.address} has other bytes than its name says; remove "
                f"{object_name(digest)} from the bucket, and run the stage that makes it again"
            )

    def _not_held(self, digest: str) -> NotFound:
        return NotFound(f"the store at {self.address} holds no object {digest[:12]}; run the stage that makes it again")

    def _keep(self, temporary: Path, digest: str) -> None:
        target = self._cached(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)

    def _cached(self, digest: str) -> Path:
        return self.cache / object_name(digest)

    def _checkpoints(self, key: str) -> Path:
        """Apart for each store: what a killed process left here must not be taken for another store's."""
        return self.cache / "checkpoints" / digest_of([self.bucket.server, self.address])[:8] / key

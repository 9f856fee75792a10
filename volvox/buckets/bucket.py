"""A place in a bucket, and everything that is asked of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from volvox.buckets.access import BODIES, ONCE, QUICK, Access, Patience, connect
from volvox.buckets.failures import code_in, explained, no_bucket
from volvox.errors import InvalidInput, VolvoxError

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import S3Store

T = TypeVar("T")

_BLOCK = 1 << 20
_PART = 8 << 20
_MOST_PARTS = 9000  # S3 takes 10,000
_PARTS_AT_ONCE = 4


class Bucket:
    """A place in a bucket, `s3://bucket/prefix`: everything is asked here, and what fails is told in a sentence."""

    def __init__(self, address: str, access: Access | None = None, *, called: str = "store") -> None:
        """Name the place; nothing is asked yet.

        Args:
            address: `s3://bucket/prefix`.
            access: How it is reached.
            called: What messages call it: the `store`, or a `place`.

        Raises:
            InvalidInput: If the address names no bucket, or the access is incomplete.
        """
        self.address = address.rstrip("/")
        self.access = (access or Access()).completed()
        self.name, _, prefix = self.address.removeprefix("s3://").partition("/")
        self.prefix = prefix.strip("/")
        self.called = called
        if not self.address.startswith("s3://") or not self.name or "//" in self.prefix or "@" in self.name:
            raise InvalidInput(f"the address {_without_user(address)!r} names no bucket; give s3://BUCKET/PREFIX")
        self._there = False
        self._bare_etags = False

    @property
    def server(self) -> str:
        """Where it is asked, for people."""
        return self.access.endpoint or f"Amazon S3 ({self.access.region})"

    def client(self, patience: Patience = QUICK) -> S3Store:
        """Its client; imports the library the first time."""
        return connect(self.name, self.prefix, access=self.access, patience=patience)

    # -- questions -----------------------------------------------------------------------------------------------

    def head(self, key: str, version: str = "") -> ObjectMeta | None:
        """What is known of an object, or of one version of it, or None if it is not there.

        Raises:
            InvalidInput: If there is no such bucket, or the credentials are refused or have expired.
            Unavailable: If the server does not answer.
        """
        return self._asked(lambda client: _got(client, key, version, head=True).meta, version=version)

    def attributes(self, key: str) -> dict[str, str] | None:
        """What was written beside an object (`put`'s attributes), or None if it is not there; raises as `head` does."""
        return self._asked(lambda client: {**_got(client, key, head=True).attributes})

    def get(self, key: str, patience: Patience = QUICK) -> tuple[bytes, str] | None:
        """The bytes of a small object and its etag, or None if it is not there; raises as `head` does."""
        import obstore

        def ask(client: S3Store) -> tuple[bytes, str]:
            answer = obstore.get(client, key)
            return bytes(answer.bytes()), answer.meta["e_tag"] or ""

        return self._asked(ask, patience)

    def download(
        self, key: str, take: Callable[[bytes], object], version: str = "", patience: Patience = BODIES
    ) -> ObjectMeta | None:
        """Hand an object's bytes to `take`, block by block; raises as `head` does.

        Returns:
            What is known of the object whose bytes these are, or None if it is not there.
        """

        def ask(client: S3Store) -> ObjectMeta:
            answer = _got(client, key, version)
            for block in answer.stream(min_chunk_size=_BLOCK):
                take(bytes(block))
            return answer.meta

        return self._asked(ask, patience, version=version)

    def list(self, folder: str) -> Iterator[ObjectMeta]:
        """All objects below `folder`; raises as `head` does."""
        import obstore

        pages = iter(obstore.list(self.client(), prefix=folder))
        while (page := self._asked(lambda _: next(pages, None))) is not None:
            yield from page

    # -- changes -------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, patience: Patience = QUICK) -> str:
        """Write a small object, over what is there; return its etag; raises as `head` does."""
        import obstore

        return self._written(lambda client: obstore.put(client, key, data, use_multipart=False), patience)

    def put_if(self, key: str, data: bytes, etag: str = "", patience: Patience = ONCE) -> str | None:
        """Write a small object if it is still what `etag` says (empty: if there is none); return its etag, else None.

        Raises:
            Unsupported: If the server knows no conditional writes and says so.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        # Ceph 16 compares an etag without its quotes, against the standard; a stale one matches in neither form.
        forms = sorted({etag, etag.strip('"')}, key=lambda form: form.startswith('"') == self._bare_etags)
        for form in forms:
            mode: Any = {"e_tag": form} if form else "create"
            try:
                written = self._written(
                    lambda client, mode=mode: obstore.put(client, key, data, mode=mode),
                    patience,
                    passed=(AlreadyExistsError, PreconditionError),
                )
            except (AlreadyExistsError, PreconditionError):
                continue
            self._bare_etags = bool(form) and not form.startswith('"')
            return written
        return None

    def create(
        self, key: str, data: bytes, attributes: dict[str, str] | None = None, patience: Patience = QUICK
    ) -> bool:
        """Write an object if there is none, in one step, where the server heeds such conditions.

        Returns:
            Whether it was written. What was written by a request whose answer was lost is found there by the next one.

        Raises:
            Unsupported: If the server knows no conditional writes and says so.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._written(
                lambda client: obstore.put(client, key, data, mode="create", attributes=attributes),  # pyright: ignore[reportArgumentType]
                patience,
                passed=(AlreadyExistsError, PreconditionError),
            )
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def upload(
        self,
        key: str,
        source: Path | bytes | Iterable[bytes],
        size: int,
        attributes: dict[str, str] | None = None,
        patience: Patience = BODIES,
    ) -> None:
        """Write an object of any size: in parts at once if it is large, and whole or not at all; raises as `head` does.

        Args:
            key: Its name.
            source: A file, or bytes, or blocks of them; an exception that these raise is passed on, and nothing is
                written.
            size: How many bytes, about.
            attributes: What is kept beside it: `Content-Type`, and names of one's own.
            patience: How long each request is waited for.
        """
        import obstore

        beside: Any = attributes
        part = max(_PART, size // _MOST_PARTS)
        if size <= part and isinstance(source, Path | bytes):
            data = source.read_bytes() if isinstance(source, Path) else source
            self._written(
                lambda client: obstore.put(client, key, data, attributes=beside, use_multipart=False), patience
            )
            return
        self._written(
            lambda client: obstore.put(
                client, key, source, attributes=beside, chunk_size=part, max_concurrency=_PARTS_AT_ONCE
            ),
            patience,
        )

    def copy(self, source: str, target: str) -> None:
        """Write what lies at `source` to `target` too, without moving its bytes here; raises as `head` does."""
        import obstore

        self._asked(lambda client: obstore.copy(client, source, target), BODIES)

    def delete(self, keys: list[str]) -> None:
        """Remove objects; raises as `head` does."""
        import obstore

        if keys:
            self._asked(lambda client: obstore.delete(client, keys), BODIES)

    # -- inside --------------------------------------------------------------------------------------------------

    def _written(
        self, put: Callable[[S3Store], Any], patience: Patience, passed: tuple[type[Exception], ...] = ()
    ) -> str:
        result = self._asked(put, patience, passed)
        if result is None:
            raise no_bucket(self.address, self.server)
        return result["e_tag"] or ""

    def _asked(
        self,
        ask: Callable[[S3Store], T],
        patience: Patience = QUICK,
        passed: tuple[type[Exception], ...] = (),
        version: str = "",
    ) -> T | None:
        """What `ask` returns; None if what it asks for is not there, in a bucket that is.

        Errors are raised outside of the handler that caught the library's own, so that these do not hang behind
        them: they quote the server's answer, and that of an expired token quotes the token.
        """
        from obstore.exceptions import BaseError

        client = self.client(patience)
        try:
            return ask(client)
        except FileNotFoundError as error:
            missing, failed = True, str(error)
        except passed:
            raise
        except BaseError as error:
            missing, failed = False, str(error)
        if version and re.search(r"\b400\b", failed.partition("\n")[0]):
            return None  # what is no version id at all
        if missing and (not self._there or "NoSuchBucket" in failed) and "NoSuchKey" not in failed:
            missing, failed = self._looked_for_bucket(failed)
        if missing:
            self._there = True
            return None
        raise self._explained(failed)

    def _looked_for_bucket(self, failed: str) -> tuple[bool, str]:
        """Tell a missing object from a missing bucket: an answer without a body does not."""
        if "NoSuchBucket" in failed:
            return False, failed
        told = self._why()
        return (True, "") if told is None else (False, told)

    def _why(self) -> str | None:
        """What the server says of a question whose answer has a body; None if it is all well."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.list_with_delimiter(self.client())
        except (BaseError, FileNotFoundError) as error:
            return str(error)
        return None

    def _explained(self, failed: str) -> VolvoxError:
        if code_in(failed) is None and re.search(r"\bHEAD\b.*\b(400|403)\b", failed.partition("\n")[0]):
            failed = self._why() or failed  # the answer to a HEAD has no body, hence no reason
        return self.failure(failed)

    def failure(self, failed: str) -> VolvoxError:
        """The error for what a library said of a failed request."""
        return explained(failed, self.address, self.server, self.access.region, self.called)


def _got(client: S3Store, key: str, version: str = "", *, head: bool = False) -> GetResult:
    import obstore

    options: Any = {"head": head, **({"version": version} if version else {})}
    return obstore.get(client, key, options=options)


def _without_user(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)

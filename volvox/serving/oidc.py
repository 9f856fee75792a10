"""Access tokens of an OpenID Connect provider: JWTs, checked with the keys that the provider publishes.

Only signatures with a public key are accepted: with HS256 whoever can check a token could make one, and with `none`
everybody could.

Source: OpenID Connect Discovery 1.0; RFC 7515, 7517, 7519; RFC 8725 (best current practices).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

from volvox.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    import httpx

ALGORITHMS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}
_KEYS_SECONDS = 3600.0  # how long published keys are believed
_AGAIN_SECONDS = 60.0  # between two fetches, whoever asks with whatever key
_SOON_SECONDS = 5.0  # the same while there are no keys at all
_LEEWAY_SECONDS = 30.0  # clocks differ
_LONGEST_TOKEN = 16 << 10
_MOST_REMEMBERED = 4096

log = logging.getLogger(__name__)


class Unaccepted(Exception):
    """The token is not accepted; the message says why."""


class KeysNeeded(Exception):
    """The token may be good, but the provider's keys have to be fetched first."""


class Provider:
    """One issuer of tokens."""

    def __init__(self, issuer: str, audience: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """The provider at `issuer`; its tokens have to be meant for `audience`. Nothing is fetched yet.

        Raises:
            InvalidInput: If the address is not of HTTPS (or of this machine), or joserfc is not installed.
        """
        parts = urlsplit(issuer)
        if not parts.hostname or not (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
        ):
            raise InvalidInput(f"the issuer {issuer!r} has to be an https:// address: its keys come from there")
        try:
            import joserfc  # noqa: F401 - told here, and not with the first request
        except ImportError as error:
            raise InvalidInput("OIDC tokens are checked with joserfc: pip install 'volvox[auth]'") from error
        self.issuer, self.audience = issuer, audience
        self._transport = transport
        self._keys: dict[str, Any] | None = None  # by kid; those without one by their number
        self._published: Any = None
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()
        self._accepted: dict[bytes, tuple[float, dict[str, Any]]] = {}  # by the token's hash, until it expires

    def claims(self, token: str) -> dict[str, Any]:
        """What the provider says in `token`, which is good; costs microseconds when it was seen before.

        Raises:
            Unaccepted: If it is not good for this server.
            KeysNeeded: If that can be said only after `refresh`.
            Unavailable: If the provider gives no keys.
        """
        if len(token) > _LONGEST_TOKEN:
            raise Unaccepted("the token is too long")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        seen = self._accepted.get(digest)
        if seen is not None and time.time() < seen[0] and not self._due():
            return seen[1]
        header = _header(token)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise Unaccepted(f"the token is signed with {algorithm!r}; {', '.join(ALGORITHMS)} are accepted")
        if self._due():
            raise KeysNeeded
        if self._keys is None:
            raise Unavailable(f"the provider {self.issuer} gives no keys, so that no token of it can be checked")
        claims = self._verified(token, self._key(header.get("kid"), ALGORITHMS[algorithm]), algorithm)
        expires = self._checked(claims)
        if len(self._accepted) >= _MOST_REMEMBERED:
            self._accepted.clear()
        self._accepted[digest] = expires + _LEEWAY_SECONDS, claims
        return claims

    async def refresh(self) -> None:
        """Fetch the provider's keys, unless that was done just now; a provider that does not answer is logged."""
        async with self._fetching:
            if not self._may_try():
                return
            self._tried = time.monotonic()
            try:
                published = await self._fetch()
            except Exception as error:  # whatever the provider answers, the keys that there are stay
                log.warning("the keys of %s cannot be fetched: %s: %s", self.issuer, type(error).__name__, error)
                return
            self._fetched = time.monotonic()
            if published != self._published:  # what was signed with a key that is gone must not be remembered
                self._accepted.clear()
                self._keys, self._published = _keys(published), published

    async def _fetch(self) -> Any:
        import httpx

        async with httpx.AsyncClient(timeout=5.0, transport=self._transport) as client:
            answer = await client.get(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            answer.raise_for_status()
            told = answer.json()
            if told["issuer"] != self.issuer:
                raise ValueError(f"it says that it is {told['issuer']!r}")
            if urlsplit(told["jwks_uri"]).scheme != "https" and urlsplit(self.issuer).scheme == "https":
                raise ValueError(f"its keys are at {told['jwks_uri']!r}, not behind HTTPS")
            answer = await client.get(told["jwks_uri"])
            answer.raise_for_status()
            return answer.json()["keys"]

    def _may_try(self) -> bool:
        return time.monotonic() - self._tried >= (_SOON_SECONDS if self._keys is None else _AGAIN_SECONDS)

    def _due(self) -> bool:
        return (self._keys is None or time.monotonic() - self._fetched >= _KEYS_SECONDS) and self._may_try()

    def _key(self, kid: Any, kind: str) -> Any:
        """The key with this id; without an id, the only one there is.

        Raises:
            KeysNeeded: If there is none, and the provider may have a new one.
            Unaccepted: If there is none.
        """
        assert self._keys is not None
        if kid is None:
            fitting = [key for key in self._keys.values() if key.key_type == kind]
            found = fitting[0] if len(fitting) == 1 else None
        else:
            found = self._keys.get(kid) if isinstance(kid, str) else None
        if found is None:
            if self._may_try():
                raise KeysNeeded
            raise Unaccepted(f"the token is signed with key {kid!r}, which its provider does not publish")
        return found

    def _verified(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        from joserfc import jwt

        if key.key_type != ALGORITHMS[algorithm] or key.get("alg", algorithm) != algorithm:
            raise Unaccepted(f"the token's key is not one for {algorithm}")
        try:
            claims = jwt.decode(token, key, algorithms=[algorithm]).claims
        except Exception as error:  # whatever is wrong with it, it is not accepted
            raise Unaccepted(f"the token's signature is not good ({type(error).__name__})") from error
        return claims

    def _checked(self, claims: dict[str, Any]) -> float:
        """When the token expires, in seconds since 1970."""
        now = time.time()
        if claims.get("iss") != self.issuer:
            raise Unaccepted(f"the token is of {claims.get('iss')!r}; those of {self.issuer} are accepted")
        audience = claims.get("aud")
        if self.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unaccepted(f"the token is meant for {audience!r}, not for {self.audience!r}")
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not _is_time(expires) or not _is_time(begins):
            raise Unaccepted("the token does not say until when it is good")
        if now >= expires + _LEEWAY_SECONDS:
            raise Unaccepted("the token has expired; get a new one")
        if now < begins - _LEEWAY_SECONDS:
            raise Unaccepted("the token is not good yet")
        return expires


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _header(token: str) -> dict[str, Any]:
    first, _, rest = token.partition(".")
    try:
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError) as error:
        raise Unaccepted("the token is not known here, and no JWT") from error
    if not isinstance(header, dict) or rest.count(".") != 1:
        raise Unaccepted("the token is not known here, and no signed JWT")
    return header


def _keys(published: Any) -> dict[str, Any]:
    """The published keys that can sign, by their ids; what cannot be read is left out."""
    from joserfc.jwk import JWKRegistry

    found = {}
    for number, told in enumerate(published):
        if not isinstance(told, dict) or told.get("use", "sig") != "sig":
            continue
        if told.get("kty") not in ALGORITHMS.values() or (told["kty"] == "EC" and told.get("crv") != "P-256"):
            continue
        try:
            found[str(told.get("kid") or f"#{number}")] = JWKRegistry.import_key(told)
        except Exception as error:
            log.warning("key %r cannot be read: %s", told.get("kid"), error)
    return found

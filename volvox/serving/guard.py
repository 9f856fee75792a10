"""Who may ask a server: holders of its own tokens, and of access tokens that an OpenID Connect provider gave.

Health stays open, for those who watch the server; deploying (`/admin/`) has a token of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volvox.errors import InvalidInput, Unavailable
from volvox.serving import outcome
from volvox.serving.oidc import KeysNeeded, Provider, Unaccepted
from volvox.serving.outcome import Outcome
from volvox.serving.tokens import TokenFile

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = {"/health/live", "/health/ready", "/oip/v2/health/live", "/oip/v2/health/ready"}
# Ask for tokens of their own: deploying for the stack's, on this machine only, notifications for their sender's.
_OWN = ("/admin/", "/events/")
_GROUPS = ("groups", "entitlements", "eduperson_entitlement")  # RFC 9068, and what research federations call them
_REALM = 'Bearer realm="volvox"'


@dataclass(frozen=True)
class GuardSettings:
    """Whom a server answers; nothing set means everybody.

    Attributes:
        tokens: File of the server's own tokens, see `volvox.serving.tokens`.
        oidc_issuer: Address of the OpenID Connect provider whose access tokens are accepted.
        oidc_audience: Whom its tokens have to be meant for (`aud`); required with an issuer.
        oidc_scope: A scope that its tokens must have.
        oidc_group: A group that their holders must be in (claims `groups`, `entitlements`, `eduperson_entitlement`).
        open_metrics: Whether `/metrics` is answered to everybody.
    """

    tokens: Path | None = None
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_scope: str = ""
    oidc_group: str = ""
    open_metrics: bool = False

    def __bool__(self) -> bool:
        """Whether anything is set; what is set by halves is refused by `Guard`, and no reason to answer everybody."""
        return any((self.tokens, self.oidc_issuer, self.oidc_audience, self.oidc_scope, self.oidc_group))


class Guard:
    """Looks at the Authorization header of each request."""

    def __init__(self, settings: GuardSettings) -> None:
        """The guard of one server.

        Raises:
            InvalidInput: If a setting cannot be used.
        """
        if settings.oidc_issuer and not settings.oidc_audience:
            raise InvalidInput(
                f"tokens of {settings.oidc_issuer} would be accepted whomever they are meant for; give an audience"
            )
        if not settings.oidc_issuer and (settings.oidc_audience or settings.oidc_scope or settings.oidc_group):
            raise InvalidInput("an OIDC audience, scope or group is of no use without an issuer; give one")
        self.settings = settings
        self._tokens = TokenFile(settings.tokens) if settings.tokens else None
        self._provider = Provider(settings.oidc_issuer, settings.oidc_audience) if settings.oidc_issuer else None

    def refusal(self, headers: list[tuple[bytes, bytes]]) -> Outcome | None:
        """Why a request with these headers (names in lower case) is refused; None if it may be answered.

        It waits for nothing. A token that can be judged only with fresh keys of the provider is refused here, with 503;
        `checked` fetches them.
        """
        try:
            return self._judged(headers)
        except KeysNeeded:
            return _unchecked("the provider's keys have to be fetched first")

    async def checked(self, headers: list[tuple[bytes, bytes]]) -> Outcome | None:
        """As `refusal`; waits for the provider's keys where that is needed."""
        try:
            return self._judged(headers)
        except KeysNeeded:
            assert self._provider is not None
            await self._provider.refresh()
            return self.refusal(headers)

    def is_open(self, path: str) -> bool:
        """Whether `path` is answered without a token."""
        return path in _OPEN or path.startswith(_OWN) or (path == "/metrics" and self.settings.open_metrics)

    def described(self) -> dict[str, Any]:
        """What the OpenAPI document says of it."""
        schemes: dict[str, Any] = {"token": {"type": "http", "scheme": "bearer"}}
        if issuer := self.settings.oidc_issuer:
            address = issuer.rstrip("/") + "/.well-known/openid-configuration"
            schemes["oidc"] = {"type": "openIdConnect", "openIdConnectUrl": address}
        return {"components": {"securitySchemes": schemes}, "security": [{name: []} for name in schemes]}

    def _judged(self, headers: list[tuple[bytes, bytes]]) -> Outcome | None:
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = (given[0] if len(given) == 1 else b"").decode("latin-1").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return _refused(401, "this server asks for a token: send `Authorization: Bearer TOKEN`")
        if self._tokens is not None and self._tokens.holder(token) is not None:
            return None
        if self._provider is None:
            return _refused(401, "the token is not known here; `volvox tokens add NAME` makes one", "invalid_token")
        try:
            claims = self._provider.claims(token)
        except Unaccepted as error:
            return _refused(401, str(error), "invalid_token")
        except Unavailable as error:
            return _unchecked(str(error))
        return self._lacking(claims)

    def _lacking(self, claims: dict[str, Any]) -> Outcome | None:
        scope, group = self.settings.oidc_scope, self.settings.oidc_group
        if scope and scope not in _words(claims.get("scope")) | _words(claims.get("scp")):
            return _refused(403, f"the token has not the scope {scope!r}", "insufficient_scope", f', scope="{scope}"')
        if group and not any(group in _words(claims.get(name)) for name in _GROUPS):
            return _refused(403, f"the token's holder is not in the group {group!r}", "insufficient_scope")
        return None


class Guarded:
    """Answers only requests that the guard lets through; nothing of another's body is read."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self.app, self.guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or self.guard.is_open(path):
            await self.app(scope, receive, send)
            return
        told = await self.guard.checked(scope["headers"])
        if told is None:
            await self.app(scope, receive, send)
            return
        if path.startswith("/oip/"):
            message = told.body.decode().removeprefix(f"{told.status}: ")
            told = Outcome(told.status, "application/json", json.dumps({"error": message}).encode(), told.headers)
        headers = {"content-type": told.content_type, "content-length": str(len(told.body)), **told.headers}
        raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": told.status, "headers": raw})
        await send({"type": "http.response.body", "body": told.body})


def _words(given: Any) -> set[str]:
    """The entries of a claim that is a list, or words in a text."""
    if isinstance(given, str):
        return set(given.split())
    return {one for one in given if isinstance(one, str)} if isinstance(given, list) else set()


def _refused(status: int, message: str, error: str = "", more: str = "") -> Outcome:
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\' else "'" for letter in message)
    challenge = f'{_REALM}, error="{error}", error_description="{plain}"{more}' if error else _REALM
    return outcome.text(status, message, {"WWW-Authenticate": challenge})


def _unchecked(message: str) -> Outcome:
    return outcome.text(503, message, {"Retry-After": "5"})

"""An OpenID Connect provider in this process: its answers, and tokens that it signs."""

from __future__ import annotations

import time
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

ISSUER, AUDIENCE = "https://issuer.test", "urn:volvox"


class Issuer:
    """Publishes its keys; counts how often it is asked for them."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.asked = 0
        self.says = ISSUER
        self.answers = True
        self.rotate("rsa-1", RSAKey.generate_key(2048))
        self.rotate("ec-1", ECKey.generate_key("P-256"))

    def rotate(self, kid: str, key: Any) -> None:
        self.keys[kid] = key

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not self.answers:
            raise httpx.ConnectError("nobody answers")
        if request.url.path == "/.well-known/openid-configuration":
            return httpx.Response(200, json={"issuer": self.says, "jwks_uri": f"{ISSUER}/jwks"})
        self.asked += 1
        published = [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]
        return httpx.Response(200, json={"keys": [*published, {"kty": "OKP"}, "junk", {"kty": "RSA", "n": "?"}]})

    def token(self, kid: str = "rsa-1", algorithm: str = "RS256", header: dict | None = None, **changed: Any) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 600, "iat": now, **changed}
        claims = {name: value for name, value in claims.items() if value is not None}
        told = {"alg": algorithm, "kid": kid, "typ": "at+jwt", **(header or {})}
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, claims, self.keys[kid], algorithms=[algorithm])

"""Where an OSCAR cluster is and as whom it is asked: from a function's file, a block, or the environment.

A definition that names no cluster is in the one of `VOLVOX_OSCAR_ENDPOINT`, with `VOLVOX_OSCAR_USER` and
`VOLVOX_OSCAR_PASSWORD`, or with `VOLVOX_OSCAR_TOKEN` or `VOLVOX_OSCAR_TOKEN_FILE`; `VOLVOX_OSCAR_VERIFY=false` takes
any certificate.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.providers import Block, given, saved
from volvox.runtimes.opening import OSCAR_ENDPOINT as ENDPOINT
from volvox.runtimes.oscar_cluster.settings import OscarSettings

_ENVIRONMENT = {
    "endpoint": ENDPOINT,
    "auth_user": "VOLVOX_OSCAR_USER",
    "auth_password": "VOLVOX_OSCAR_PASSWORD",
    "oidc_token": "VOLVOX_OSCAR_TOKEN",
    "token_file": "VOLVOX_OSCAR_TOKEN_FILE",
    "ssl_verify": "VOLVOX_OSCAR_VERIFY",
}
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True)
class Access:
    """A cluster's address, and one way to be somebody there.

    Attributes:
        endpoint: Its address, without `/` at its end.
        verify: Whether its certificate must be a good one.
        user: With `password`: an administrator, by Basic.
        password: Of the user.
        token: Of OpenID Connect.
        token_file: A file that has the token, read again for each request: whoever renews it writes there.
    """

    endpoint: str
    verify: bool = True
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    token_file: str = ""

    def bearer(self) -> str:
        """The token of now; empty for a user with a password.

        Raises:
            InvalidInput: If the file cannot be read, or has none.
        """
        if not self.token_file:
            return self.token
        try:
            told = Path(self.token_file).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the token of the OSCAR cluster is to be in {self.token_file}: {error}") from error
        if not told or not told.isascii() or len(told.split()) != 1:
            raise InvalidInput(f"the token of the OSCAR cluster is to be in {self.token_file}, and there is none")
        return told


@dataclass(frozen=True)
class Cluster:
    """Which cluster is meant, without its secrets, as it may be kept.

    Attributes:
        name: Its id; empty: the environment's.
        described: What a definition says of it: pairs of `endpoint`, `ssl_verify`, `token_file`, `token_env`.
        reference: Where its credentials stand; empty: they are in none of these.
    """

    name: str = ""
    described: tuple[tuple[str, Any], ...] = ()
    reference: str = ""

    @classmethod
    def of(cls, function: Function) -> Cluster:
        """The one that a function is in.

        Raises:
            InvalidInput: If it describes several and says not which, or names one that it does not describe.
        """
        providers = function.settings.get("storage_providers", {})
        described = dict(providers) if isinstance(providers, dict) else {}
        known = {one.partition(".")[2] for one in (*described, *function.providers) if one.startswith("clusters.")}
        name = OscarSettings.of(function).cluster
        if not name and len(known) > 1:
            told = ", ".join(sorted(known))
            raise InvalidInput(f"function {function.name!r} describes clusters {told}; say which: settings cluster")
        if name and name not in known and (known or not os.environ.get(ENDPOINT)):
            raise InvalidInput(
                f"function {function.name!r} names the OSCAR cluster {name!r}, which is not described: write "
                f"providers: {{clusters.{name}: {{endpoint: https://..., credentials: block:NAME}}}}, or set {ENDPOINT}"
            )
        name = name if name in known else next(iter(known), "")
        if not name:
            return cls()
        told = described.get(f"clusters.{name}", {})
        return cls(name, tuple(sorted(told.items())), function.providers.get(f"clusters.{name}", ""))

    @property
    def called(self) -> str:
        """What people call it."""
        return f"the OSCAR cluster {self.name}" if self.name else "the OSCAR cluster"

    def access(self, block: Block = saved) -> Access:
        """How it is asked, read now.

        Raises:
            InvalidInput: If something of that is missing or wrong.
            NotFound: If the block is gone.
            Unavailable: If the block cannot be asked for.
        """
        if self.name:
            key = f"clusters.{self.name}"
            asked = Function(
                name="cluster", image="none", settings={"storage_providers": {key: dict(self.described)}},
                providers={key: self.reference} if self.reference else {},
            )  # fmt: skip
            told = given(asked, key, block)
        else:
            told = {key: os.environ[name] for key, name in _ENVIRONMENT.items() if os.environ.get(name)}
        return _checked(self, told)


def _checked(cluster: Cluster, told: Mapping[str, Any]) -> Access:
    user, password = str(told.get("auth_user") or ""), str(told.get("auth_password") or "")
    endpoint, token = str(told.get("endpoint") or "").rstrip("/"), str(told.get("oidc_token") or "")
    variable, file = str(told.get("token_env") or ""), str(told.get("token_file") or "")
    if not endpoint:
        what = f"clusters.{cluster.name} says no endpoint" if cluster.name else f"{ENDPOINT} is not set"
        raise InvalidInput(f"it is not known where {cluster.called} is: {what}")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise InvalidInput(f"the endpoint of {cluster.called} is no address: write https://HOST, no credentials in it")
    if variable and not (token := os.environ.get(variable, "")):
        raise InvalidInput(f"the token of {cluster.called} is to be in the variable {variable}, which is not set")
    if bool(user) != bool(password):
        raise InvalidInput(f"{cluster.called} needs auth_user and auth_password together")
    ways = [bool(user), bool(token), bool(file)]
    if sum(ways) != 1:
        raise InvalidInput(
            f"{cluster.called} is asked in one way: give {'only ' if any(ways) else ''}auth_user and auth_password, or "
            "an oidc_token, or a token_file"
        )
    if any(not one.isprintable() for one in (user, password, token)) or not token.isascii():
        raise InvalidInput(f"the credentials of {cluster.called} hold what no header can")
    verify = str(told.get("ssl_verify", True)).strip().lower() not in _FALSE
    return Access(endpoint, verify, user, password, token, file)

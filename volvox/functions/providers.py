"""`storage_providers` and `clusters` of definition files: of secrets, only where they stand is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.document import Value
from volvox.functions.entries import Entries, Reading
from volvox.functions.locations import PROVIDERS
from volvox.functions.secrecy import credentials, place_of
from volvox.functions.values import near, said, text, truth

_REFERENCE = re.compile(r"block:[A-Za-z0-9._/-]+|file:[^#]+#.+", re.DOTALL)
_OPEN: dict[str, tuple[str, ...]] = {
    "s3": ("region", "endpoint", "verify"),
    "minio": ("endpoint", "verify", "region"),
    "onedata": ("oneprovider_host", "space"),
    "webdav": ("hostname",),
    "rucio": ("host", "auth_host", "account", "rse", "oidc_audience", "token_endpoint"),
    "clusters": ("endpoint", "ssl_verify", "token_file", "token_env"),
}
_SECRET: dict[str, tuple[str, ...]] = {
    "s3": ("access_key", "secret_key"),
    "minio": ("access_key", "secret_key"),
    "onedata": ("token",),
    "webdav": ("login", "password"),
    "rucio": ("refresh_token",),
    "clusters": ("auth_user", "auth_password", "oidc_token"),
}
_TRUTHS = ("verify", "ssl_verify")
_TEMPLATE = "hidden"  # what OSCAR's API answers instead of a secret


Block = Callable[[str], Mapping[str, Any]]

_POINTS = "volvox.credentials"


def saved(name: str) -> Mapping[str, Any]:
    """What the saved block `name` holds; the room that may import Prefect brings it by entry point.

    Raises:
        InvalidInput: If no block can be read here, or it holds no credentials.
        NotFound: If there is no such block.
        Unavailable: If the Prefect server does not answer.
    """
    from importlib.metadata import distribution

    for point in distribution("volvox").entry_points.select(group=_POINTS, name="block"):
        return point.load()(name)
    raise InvalidInput(f"block:{name} cannot be read here: pip install 'volvox[cycle]'")


def given(function: Function, provider: str, block: Block | None = None) -> dict[str, Any]:
    """What `volvox.places.open_place` is given for a place of the function; empty: the environment says it.

    Args:
        function: Whose place it is.
        provider: As its `Input` or `Output` names it.
        block: Gives what a saved block holds, by its name; whoever may import Prefect has one.

    Raises:
        InvalidInput: If the file that they stand in cannot be read any more, or they are in a block and nobody can ask.
        NotFound: If they are gone from it.
    """
    kind = provider.partition(".")[0]
    known = {*_OPEN.get(kind, ()), *_SECRET.get(kind, ())}
    described = function.settings.get("storage_providers", {})
    told = dict(described.get(provider, {})) if isinstance(described, dict) else {}
    reference = function.providers.get(provider, "")
    if reference.startswith("block:"):
        if block is None:
            raise InvalidInput(f"{provider} of function {function.name!r} is {reference}, which cannot be asked here")
        told |= block(reference.removeprefix("block:"))
        return told
    if reference:
        told = {**credentials(reference), **told}
    return {key: value for key, value in told.items() if key in known and value not in ("", None, _TEMPLATE)}


class Providers:
    """What a file says of storage providers and clusters.

    Attributes:
        described: `minio.default` or `clusters.ID` -> what is no secret of it.
        references: The same names -> `block:NAME` or `file:PATH#KEY`, where its secrets stand.
    """

    def __init__(self, reading: Reading) -> None:
        """Nothing is described yet."""
        self.described: dict[str, dict[str, Any]] = {}
        self.references: dict[str, str] = {}
        self._reading = reading

    def read(self, storage: Value | None, clusters: Value | None, *, plain: bool = True) -> None:
        """Take in `storage_providers` (type -> id -> keys) and `clusters` (id -> keys).

        Args:
            storage: The one map, or None.
            clusters: The other.
            plain: Whether secrets may stand in them.
        """
        for kind, ids in Entries(storage, self._reading).value.entries if storage else ():
            if kind.lower() not in PROVIDERS:
                self._reading.warn(
                    ids, f"is no type of storage provider{near(kind, PROVIDERS)}; there are {', '.join(PROVIDERS)}"
                )
                continue
            for name, keys in Entries(ids, self._reading).value.entries:
                self.describe(f"{kind.lower()}.{name}", keys, plain=plain)
        for name, keys in Entries(clusters, self._reading).value.entries if clusters else ():
            self.describe(f"clusters.{name}", keys, plain=plain)

    def describe(self, name: str, keys: Value, *, plain: bool = True) -> None:
        """Take in one of them, `minio.default` or `clusters.ID`; a text is a reference to its credentials.

        Args:
            name: Type and id.
            keys: What the file says of it.
            plain: Whether secrets may stand in it.
        """
        if keys.kind == "text":
            self._refer(name, keys)
            return
        entries, kind = Entries(keys, self._reading), name.partition(".")[0]
        self.take(name, entries, plain=plain)
        for _, value in entries.rest():
            known = ("credentials", *_OPEN[kind], *_SECRET[kind])
            self._reading.warn(value, f"is not known{near(value.key.rpartition('.')[2], known)}; it does nothing")

    def take(self, name: str, entries: Entries, *, plain: bool = True) -> None:
        """Take what belongs to `name` out of a map that may hold other things too."""
        kind = name.partition(".")[0]
        found: dict[str, Any] = {}
        for key in _OPEN[kind]:
            told = entries.take(key, truth, None) if key in _TRUTHS else entries.take(key, text, None)
            if told is not None:
                found[key] = told
        if found:
            self.described[name] = {**self.described.get(name, {}), **found}
        if (reference := entries.get("credentials")) is not None:
            self._refer(name, reference)
        stated = [entries.get(key) for key in _SECRET[kind]]
        secrets = [value for value in stated if value is not None and value.text not in ("", _TEMPLATE)]
        if secrets and not plain:
            self._reading.mistakes.append(
                str(secrets[0].wrong("is a secret, which does not belong here; write credentials: block:NAME, or "
                                     "credentials: file:PATH#KEY where it stands in a file of its own"))
            )  # fmt: skip
        elif secrets and reference is None:
            self.references[name] = place_of(entries.value)
            self._reading.warn(
                entries.value, "holds credentials; they are not kept but read again from this file when they are "
                "needed; save them as a block and write credentials: block:NAME",
            )  # fmt: skip

    def copy(self) -> Providers:
        """The same, to which something can be added that is not for all."""
        made = Providers(self._reading)
        made.described, made.references = dict(self.described), dict(self.references)
        return made

    def attached(self, names: set[str]) -> tuple[dict[str, str], dict[str, Any]]:
        """Of those that a function uses: references, and what is no secret."""
        used = sorted(names & (self.references.keys() | self.described.keys()))
        return (
            {name: self.references[name] for name in used if name in self.references},
            {name: self.described[name] for name in used if name in self.described},
        )

    def _refer(self, name: str, value: Value) -> None:
        given = self._reading.tried(said, value, "")
        if given and not _REFERENCE.fullmatch(given):
            self._reading.mistakes.append(
                str(value.wrong("does not say where credentials stand; write block:NAME or file:PATH#KEY"))
            )
        elif given:
            self.references[name] = given

"""What a server is to answer with under a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from volvox.errors import InvalidInput
from volvox.worker import finding

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_LONGEST = {"version": 100, "module": 4000, "python": 4000}


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What is served under a name. A plain class: a model is to load while what validates requests is still imported.

    Attributes:
        name: The model's name in URLs.
        version: Its version number, for people.
        model_version: Digest of the model version; what a second deployment of it is recognised by.
        module: The module, a text that `volvox.worker.finding` reads: mostly its entry point's name.
        python: The interpreter that the module needs, one with pins of its own; empty: the server's.
        labels: The classes it may answer with; empty if that is not known.
    """

    name: str
    version: str = ""
    model_version: str
    module: str
    python: str = ""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be served.

        Raises:
            InvalidInput: If a field is not what it must be.
        """
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(f"{self.name[:100]!r} cannot be a name in URLs; use letters, digits, '.', '_' and '-'")
        if not _DIGEST.fullmatch(self.model_version):
            raise InvalidInput(f"the model_version {self.model_version[:100]!r} is no digest: 8 to 64 of 0-9a-f")
        if not self.module:
            raise InvalidInput(f"model {self.name!r} has no module")
        for field, most in _LONGEST.items():
            if len(getattr(self, field)) > most:
                raise InvalidInput(f"the {field} of model {self.name!r} is longer than {most} characters")

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Deployed:
        """The same again.

        Raises:
            InvalidInput: If a field is not what it must be.
            KeyError, TypeError: If it is something else.
        """
        known = {one.name: told[one.name] for one in fields(cls)}
        if not all(isinstance(value, str) for key, value in known.items() if key != "labels"):
            raise TypeError("a text is expected for each field but the labels")
        return cls(**{**known, "labels": tuple(str(one) for one in known["labels"])})

    def as_json(self) -> dict[str, Any]:
        """As it is written to disk."""
        return asdict(self)

    @property
    def entry_point(self) -> str:
        """What the module calls itself."""
        return finding.parse(self.module).name

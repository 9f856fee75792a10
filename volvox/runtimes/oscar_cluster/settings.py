"""The settings of a function that runtime `oscar` understands, with what stands for those that are not given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.document import Wrong
from volvox.functions.kubernetes_keys import valued
from volvox.functions.oscar_settings import OSCAR

Calls = Literal["auto", "run", "job"]


@dataclass(frozen=True)
class OscarSettings:
    """How a function is in a cluster.

    Attributes:
        cluster: Id of the cluster; empty: the only one that the function describes, else the environment's.
        name: Of its service; empty: after the function.
        calls: How a script is called: `run`: it is waited for on one connection; `job`: a job of the cluster; `auto`:
            the first where the call fits, else the second.
        run_seconds: A call that may take longer does not fit the first.
        start_seconds: How long a job or an instance may take until it runs, its node and image included.
    """

    cluster: str = ""
    name: str = ""
    calls: Calls = "auto"
    run_seconds: float = 60.0
    start_seconds: float = 600.0

    @classmethod
    def of(cls, function: Function) -> OscarSettings:
        """Those of a function; keys of OSCAR itself and of other runtimes are left where they are.

        Raises:
            InvalidInput: If one is not as it must be.
        """
        told: dict[str, Any] = {}
        for name, kind in OSCAR.items():
            if (given := function.settings.get(name)) in (None, ""):
                continue
            try:
                told[name] = kind(valued(name, given))
            except Wrong as error:
                said = str(error).partition(": ")[2]
                raise InvalidInput(f"function {function.name!r}: setting {said}") from error
        cluster = told.pop("cluster_id", "")
        return cls(**{"cluster": cluster, **told})

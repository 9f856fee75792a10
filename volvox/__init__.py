"""Volvox: from labelled data to a trained, evaluated, registered, packaged, catalogued, served model.

import volvox

made = volvox.run("cycle", source="~/plankton", name="lake")
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Submitted", "__version__", "alanded", "arun", "landed", "run"]

TYPE_CHECKING = False  # every process of a worker imports this file: not even `typing` is imported for it
if TYPE_CHECKING:
    from volvox.landing import alanded, landed
    from volvox.submitting import Submitted, arun, run


def __getattr__(name: str) -> object:
    if name in ("alanded", "landed"):
        from volvox import landing

        return getattr(landing, name)
    if name in __all__:
        from volvox import submitting

        return getattr(submitting, name)
    raise AttributeError(f"module 'volvox' has no attribute {name!r}")

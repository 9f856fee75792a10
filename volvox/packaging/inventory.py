"""Lists the distributions that an interpreter has, as JSON; it needs no other file, so it also runs inside an image.

Printed is `{"python": "3.11.7", "distributions": [{"name", "version", "license", "requires"}, ...]}`.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import Distribution, distributions
from typing import Any

_OSI = "License :: OSI Approved :: "


def described(installed: Distribution) -> dict[str, Any]:
    """What a bill of materials says of one distribution."""
    metadata = installed.metadata
    classifiers = [line.removeprefix(_OSI) for line in metadata.get_all("Classifier") or () if line.startswith(_OSI)]
    # A finder of the importlib_metadata backport raises for a missing key where the standard one gives None.
    expression, text = (
        metadata[key] if key in metadata else ""  # noqa: SIM401 - its type has no `get`
        for key in ("License-Expression", "License")
    )
    told = expression or "; ".join(classifiers) or text.strip()
    return {
        "name": metadata["Name"],
        "version": installed.version,
        "license": told.splitlines()[0][:120] if told else "",  # some put the whole text of the licence there
        "requires": list(installed.requires or ()),
    }


def inventory() -> dict[str, Any]:
    """Everything that this interpreter can import by a distribution."""
    found = {told["name"].lower(): told for told in map(described, distributions())}
    return {"python": platform.python_version(), "distributions": [found[name] for name in sorted(found)]}


if __name__ == "__main__":
    print(json.dumps(inventory()))

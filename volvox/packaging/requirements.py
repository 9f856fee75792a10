"""What an installed distribution needs to run, pinned to the versions that are installed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from volvox.errors import InvalidInput

# The image is Linux wherever it is built from; pins of another system's extras have no place in it.
_TARGET = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}
_FOR_GPU = {"onnxruntime": "onnxruntime-gpu[cuda,cudnn]"}


@dataclass(frozen=True, order=True)
class Pin:
    """One distribution at one version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def closure(roots: Iterable[str]) -> list[Pin]:
    """Everything that `roots` need, without any extra and without the roots themselves, sorted by name.

    Raises:
        InvalidInput: If a requirement is not installed here, or at a version that another one forbids.
    """
    from packaging.utils import canonicalize_name

    wanted = [canonicalize_name(root) for root in roots]
    known: dict[str, Pin | None] = dict.fromkeys(wanted)
    while wanted:
        name = wanted.pop()
        for requirement in _requirements(_installed(name, "the serving image")):
            needed = canonicalize_name(requirement.name)
            found = _installed(needed, name)
            if not requirement.specifier.contains(found.version, prereleases=True):
                raise InvalidInput(
                    f"{name} needs {requirement}, and {needed} {found.version} is installed; "
                    f"install a version that fits and run again"
                )
            if needed not in known:
                known[needed] = Pin(needed, _public(found.version))
                wanted.append(needed)
    return sorted(pin for pin in known.values() if pin)


def requirements_text(pins: Iterable[Pin], *, gpu: bool = False) -> str:
    """The lines of a `requirements.txt`; for a GPU, ONNX Runtime comes with CUDA and cuDNN as wheels."""
    return "".join(f"{_FOR_GPU.get(pin.name, pin.name) if gpu else pin.name}=={pin.version}\n" for pin in pins)


def _requirements(installed: Distribution) -> list[Any]:
    from packaging.requirements import Requirement

    parsed = map(Requirement, installed.requires or ())
    python = {"python_version": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    return [line for line in parsed if line.marker is None or line.marker.evaluate({**_TARGET, **python})]


def _installed(name: str, by: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise InvalidInput(f"{by} needs {name}, which is not installed here; `pip install {name}`") from None


def _public(version: str) -> str:
    """Without a local build's suffix (`2.13.0+cpu`), which no package index has."""
    return version.partition("+")[0]

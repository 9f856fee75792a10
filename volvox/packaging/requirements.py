"""What an installed distribution needs to run, pinned to the versions that are installed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from volvox.errors import InvalidInput

# The image is Linux wherever it is built from; pins of another system's extras have no place in it.
_TARGET = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
_FOR_GPU = {"onnxruntime": "onnxruntime-gpu[cuda,cudnn]"}
# Published beside the whole at each of its versions, and never installed beside it: the same files. What the whole
# needs and the part does not is told here; `pip check` in the image build says if a release changes that.
_PART_OF = {
    "prefect-client": (
        "prefect",
        frozenset({
            "aiosqlite", "alembic", "apprise", "asyncpg", "click", "cryptography", "cyclopts", "docker", "jinja2",
            "jinja2-humanize-extension", "pluggy", "pydocket", "readchar", "semver", "sqlalchemy",
        }),
    )
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Pin:
    """One distribution at one version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def closure(roots: Iterable[str], by: str = "the serving image") -> list[Pin]:
    """Everything that `roots` need, without the roots themselves, sorted by name.

    Args:
        roots: Distributions, with the extras that are wanted of them: `volvox`, `volvox[job]`.
        by: What they are for, as an error names it.

    Raises:
        InvalidInput: If a requirement is not installed here, or at a version that another one forbids.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted = [(Requirement(root), by) for root in roots]
    own = {canonicalize_name(root.name) for root, _ in wanted}
    pins: dict[str, Pin] = {}
    followed: set[tuple[str, str]] = set()
    while wanted:
        asked, asking = wanted.pop()
        name = canonicalize_name(asked.name)
        installed = _installed(name, asking)
        if not asked.specifier.contains(installed.version, prereleases=True):
            raise InvalidInput(
                f"{asking} needs {asked}, and {name} {installed.version} is installed; "
                f"install a version that fits and run again"
            )
        if name not in own:
            pins[name] = Pin(name, _public(installed.version))
        for extra in {"", *asked.extras} - {known for other, known in followed if other == name}:
            followed.add((name, extra))
            wanted += [(line, name) for line in installed.requirements(extra)]
    return sorted(pins.values())


def provides(name: str, extra: str) -> bool:
    """Whether the installed distribution `name` has the extra `extra`."""
    try:
        return extra in (distribution(name).metadata.get_all("Provides-Extra") or ())
    except PackageNotFoundError:
        return False


def requirements_text(pins: Iterable[Pin], *, gpu: bool = False) -> str:
    """The lines of a `requirements.txt`; for a GPU, ONNX Runtime comes with CUDA and cuDNN as wheels."""
    return "".join(f"{_FOR_GPU.get(pin.name, pin.name) if gpu else pin.name}=={pin.version}\n" for pin in pins)


@dataclass(frozen=True)
class _Installed:
    version: str
    requires: tuple[str, ...]
    without: frozenset[str] = frozenset()

    def requirements(self, extra: str) -> list[Any]:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        target = {**_TARGET, "python_version": f"{sys.version_info[0]}.{sys.version_info[1]}", "extra": extra}
        lines = [line for line in map(Requirement, self.requires) if canonicalize_name(line.name) not in self.without]
        return [line for line in lines if line.marker is None or line.marker.evaluate(target)]


def _installed(name: str, by: str) -> _Installed:
    whole, without = name, frozenset[str]()
    try:
        found = distribution(name)
    except PackageNotFoundError:
        whole, without = _PART_OF.get(name, (name, without))
        try:
            found = distribution(whole)
        except PackageNotFoundError:
            raise InvalidInput(f"{by} needs {whole}, which is not installed here; `pip install {whole}`") from None
    return _Installed(found.version, tuple(found.requires or ()), without)


def _public(version: str) -> str:
    """Without a local build's suffix (`2.13.0+cpu`), which no package index has."""
    return version.partition("+")[0]

"""Which model modules are installed, what they are made of and say of themselves - without importing them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput, UnknownModule
from volvox.identity import files_digest
from volvox.worker.loading import GROUP

_CODE = {".py", ".yaml", ".yml", ".json", ".toml", ".txt"}


@dataclass(frozen=True)
class Module:
    """An installed model module.

    Attributes:
        name: Entry-point name.
        distribution: Name of the distribution that brings it.
        version: Version of that distribution.
        folder: Its package on disk.
        code: Digest of the package's code.
    """

    name: str
    distribution: str
    version: str
    folder: Path
    code: str

    @property
    def metadata_file(self) -> Path | None:
        """The module's `metadata.yaml` (or `ai4-metadata.yml`): in the package, or beside it in a checkout."""
        names = ("metadata.yaml", "metadata.yml", "ai4-metadata.yml", "ai4-metadata.yaml")
        beside = (self.folder, self.folder.parent)
        return next((root / name for root in beside for name in names if (root / name).is_file()), None)

    def metadata(self) -> dict[str, Any]:
        """The content of the metadata file; `{}` where the module has none.

        Raises:
            InvalidInput: If the file is not YAML of keys and values.
        """
        import yaml

        if self.metadata_file is None:
            return {}
        try:
            found = yaml.safe_load(self.metadata_file.read_text())
        except yaml.YAMLError as error:
            raise InvalidInput(f"{self.metadata_file.name} of module {self.name!r} is not YAML: {error}") from error
        if not isinstance(found, dict):
            raise InvalidInput(f"{self.metadata_file.name} of module {self.name!r} holds no keys")
        return found


def installed() -> list[str]:
    """Names of all installed model modules."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find(name: str) -> Module:
    """The installed module `name`.

    Raises:
        UnknownModule: If there is none; the message lists those there are.
    """
    point = next((point for point in entry_points(group=GROUP) if point.name == name), None)
    if point is None:
        raise UnknownModule(name, installed())
    folder = _folder(point)
    code = files_digest(folder, (path for path in folder.rglob("*") if _is_code(path)))
    distribution = point.dist
    return Module(
        name=name,
        distribution=distribution.name if distribution else point.module,
        version=distribution.version if distribution else "0",
        folder=folder,
        code=code,
    )


def _folder(point: EntryPoint) -> Path:
    package = point.module.partition(".")[0]
    spec = importlib.util.find_spec(package)  # finds, does not import: the package is a top-level name
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise UnknownModule(point.name, installed())
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(str(spec.origin)).parent


def _is_code(path: Path) -> bool:
    return path.is_file() and path.suffix in _CODE and "__pycache__" not in path.parts

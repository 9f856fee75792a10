"""What a folder with the source of a model module says of it, read without installing or importing anything."""

from __future__ import annotations

import ast
import configparser
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput
from volvox.worker.finding import GROUP

_MARKS = ("pyproject.toml", "setup.cfg", "setup.py")


@dataclass
class Checkout:
    """A folder with the source of a model module.

    Attributes:
        folder: The folder.
        modules: Its model modules: name -> `module` or `module:object`.
        roots: The folders in which its packages may lie, the likeliest first.
        facts: `name`, `version`, `summary`, `author`, `license`, where they are told.
    """

    folder: Path
    modules: dict[str, str] = field(default_factory=dict)
    roots: list[Path] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def root_of(self, module: str) -> Path:
        """The folder that must be on `sys.path` for `module` to be imported.

        Raises:
            InvalidInput: If its package is nowhere in the checkout.
        """
        package = module.partition(".")[0]
        for root in self.roots:
            if (root / package).is_dir() or (root / f"{package}.py").is_file():
                return root
        raise InvalidInput(
            f"{self.folder} says that its module is {module}, but there is no package {package!r} in it; "
            "is the checkout whole?"
        )

    def write_information(self, folder: Path) -> Path:
        """Write into `folder` (made) what installing would record; with it on `sys.path` the module finds itself.

        Many modules ask `importlib.metadata` for their own name when they are imported.
        """
        name = self.facts.get("name") or next(iter(self.modules), self.folder.name)
        version = self.facts.get("version") or "0"
        information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir(parents=True, exist_ok=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        for header in ("Summary", "Author", "Author-email", "License", "Home-page"):
            if told := self.facts.get(header.lower()):
                lines.append(f"{header}: {' '.join(told.split())}")
        (information / "METADATA").write_text("\n".join(lines) + "\n")
        points = "".join(f"{point} = {value}\n" for point, value in self.modules.items())
        (information / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
        return folder


def is_checkout(folder: Path) -> bool:
    """Whether `folder` has the files of a distribution's source."""
    return any((folder / name).is_file() for name in _MARKS)


def read(folder: Path) -> Checkout:
    """The checkout in `folder`: `pyproject.toml`, `setup.cfg` and the literal part of `setup.py`, in this order.

    Raises:
        InvalidInput: If one of them cannot be parsed.
    """
    found = Checkout(folder)
    places: list[str] = []
    for name, reader in (("pyproject.toml", _pyproject), ("setup.cfg", _setup_cfg), ("setup.py", _setup_py)):
        path = folder / name
        if not path.is_file():
            continue
        try:
            modules, facts, where = reader(path.read_text(errors="replace"))
        except (ValueError, SyntaxError, configparser.Error) as error:
            raise InvalidInput(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        found.modules = found.modules or modules
        found.facts = facts | found.facts
        places += where
    if (version := folder / "VERSION").is_file():
        found.facts.setdefault("version", version.read_text().strip())
    roots = [folder / place for place in (*places, "src", "")]
    found.roots = [root for root in dict.fromkeys(roots) if root.is_dir()]
    return found


_Told = tuple[dict[str, str], dict[str, str], list[str]]


def _pyproject(text: str) -> _Told:
    told = tomllib.loads(text)
    project, tool = _table(told, "project"), _table(told, "tool")
    poetry, setuptools = _table(tool, "poetry"), _table(tool, "setuptools")
    modules = _table(_table(project, "entry-points"), GROUP) or _table(_table(poetry, "plugins"), GROUP)
    authors = [person for person in project.get("authors") or () if isinstance(person, dict)]
    licence = project.get("license")
    facts = {
        "name": project.get("name") or poetry.get("name"),
        "version": project.get("version") or poetry.get("version"),
        "summary": project.get("description") or poetry.get("description"),
        "author": ", ".join(str(person["name"]) for person in authors if person.get("name")),
        "author-email": ", ".join(str(person["email"]) for person in authors if person.get("email")),
        "license": licence.get("text") if isinstance(licence, dict) else licence,
    }
    where = [str(value) for value in _table(setuptools, "package-dir").values()]
    where += _list(_table(_table(setuptools, "packages"), "find").get("where"))
    return _strings(modules), _strings(facts), where


def _setup_cfg(text: str) -> _Told:
    told = configparser.ConfigParser(interpolation=None, strict=False)
    told.read_string(text)

    def get(section: str, *names: str) -> str:
        return next((told[section][name] for name in names if told.has_option(section, name)), "")

    points = get("options.entry_points", GROUP) or get("entry_points", GROUP)  # the second one is pbr's
    facts = {
        "name": get("metadata", "name"),
        "version": get("metadata", "version"),
        "summary": get("metadata", "description", "summary"),
        "author": get("metadata", "author"),
        "author-email": get("metadata", "author_email", "author-email"),
        "license": get("metadata", "license"),
        "home-page": get("metadata", "url", "home_page", "home-page"),
    }
    if facts["version"].startswith(("attr:", "file:")):
        facts["version"] = ""
    where = list(_assigned(get("options", "package_dir")).values()) + _lines(get("options.packages.find", "where"))
    return _assigned(points), _strings(facts), where


def _setup_py(text: str) -> _Told:
    """What is written as a plain value in the call of `setup`; the file is not run."""
    keywords: dict[str, Any] = {}
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) == "setup":
            for keyword in call.keywords:
                try:
                    keywords[str(keyword.arg)] = ast.literal_eval(keyword.value)
                except ValueError:
                    continue
    points = keywords.get("entry_points") or {}
    if isinstance(points, str):
        told = configparser.ConfigParser(interpolation=None, strict=False, delimiters="=")
        told.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        told.read_string(points)
        points = {section: dict(told[section]) for section in told.sections()}
    modules = points.get(GROUP) or {}
    if not isinstance(modules, dict):
        modules = _assigned(modules if isinstance(modules, str) else "\n".join(map(str, modules)))
    names = {"description": "summary", "author_email": "author-email", "url": "home-page"}
    facts = {
        names.get(name, name): keywords.get(name)
        for name in ("name", "version", "description", "author", "author_email", "license", "url")
    }
    where = [str(value) for value in (keywords.get("package_dir") or {}).values()]
    return _strings(modules), _strings(facts), where


def _table(told: dict[str, Any], name: str) -> dict[str, Any]:
    found = told.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _strings(told: dict[str, Any]) -> dict[str, str]:
    return {name: value.strip() for name, value in told.items() if isinstance(value, str) and value.strip()}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _assigned(text: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in _lines(text) if not line.startswith("#")]
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}

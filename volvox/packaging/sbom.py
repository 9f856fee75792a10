"""The bill of materials of a serving image: CycloneDX 1.6, JSON."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from volvox.identity import file_digest
from volvox.packaging.inventory import described
from volvox.packaging.requirements import Pin

_NAMESPACE = uuid.UUID("9d3a2f6e-6f0c-5d0e-9a4b-2f1f6d0b7c55")


def planned_inventory(pins: Iterable[Pin], roots: Iterable[str]) -> dict[str, Any]:
    """What an image that was not built would have in it, as `inventory.inventory()` would list it."""
    import platform

    names = [*roots, *(pin.name for pin in pins)]
    return {"python": platform.python_version(), "distributions": [_told(name) for name in sorted(names)]}


def bill_of_materials(
    name: str, version: str, inventory: dict[str, Any], model: Path, *, context: str, base: str, roots: Iterable[str]
) -> bytes:
    """The SBOM of one image.

    Args:
        name: The image's repository, e.g. `volvox/digits`.
        version: Its tag.
        inventory: What is installed in it, see `volvox.packaging.inventory`.
        model: Folder with the model's files as the image has them; each is listed with its sha256.
        context: Digest of the build context; the same context gives the same serial number.
        base: The image it starts from.
        roots: Distributions that the image is for; everything else is there because they need it.

    Returns:
        JSON that is valid by the CycloneDX 1.6 schema.
    """
    cyclonedx = _cyclonedx()
    component, kind = cyclonedx.Component, cyclonedx.ComponentType

    libraries = {_canonical(told["name"]): _library(cyclonedx, told) for told in inventory["distributions"]}
    python = component(name="python", version=inventory["python"], type=kind.PLATFORM, bom_ref="python")
    start = component(name=base, type=kind.CONTAINER, bom_ref="base")
    weights = component(
        name=name.rpartition("/")[2],
        version=version,
        type=kind.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        components=[_file(cyclonedx, path, model) for path in sorted(model.rglob("*")) if path.is_file()],
    )
    image = component(name=name, version=version, type=kind.CONTAINER, bom_ref="image")

    bom = cyclonedx.Bom(
        components=[*libraries.values(), python, start, weights], serial_number=uuid.uuid5(_NAMESPACE, context)
    )
    bom.metadata.component = image
    wanted = [libraries[ours] for ours in map(_canonical, roots) if ours in libraries]
    bom.register_dependency(image, [start, python, weights, *wanted])
    for told in inventory["distributions"]:
        needed = [libraries[other] for other in _needs(told) if other in libraries]
        bom.register_dependency(libraries[_canonical(told["name"])], needed)
    return cyclonedx.JsonV1Dot6(bom).output_as_string(indent=1).encode()


def _told(name: str) -> dict[str, Any]:
    try:
        return described(distribution(name))
    except PackageNotFoundError:  # onnxruntime-gpu in the place of onnxruntime, for one
        return {"name": name, "version": "", "license": "", "requires": []}


def _library(cyclonedx: Any, told: dict[str, Any]) -> Any:
    from packageurl import PackageURL

    name = _canonical(told["name"])
    licence = cyclonedx.LicenseFactory().make_from_string(told["license"]) if told["license"] else None
    return cyclonedx.Component(
        name=told["name"],
        version=told["version"] or None,
        type=cyclonedx.ComponentType.LIBRARY,
        bom_ref=f"{name}@{told['version']}",
        purl=PackageURL("pypi", None, name, told["version"] or None),
        licenses=[licence] if licence else None,
    )


def _file(cyclonedx: Any, path: Path, root: Path) -> Any:
    place = path.relative_to(root).as_posix()
    digest = cyclonedx.HashType(alg=cyclonedx.HashAlgorithm.SHA_256, content=file_digest(path))
    return cyclonedx.Component(
        name=f"/model/{place}", type=cyclonedx.ComponentType.FILE, bom_ref=f"model/{place}", hashes=[digest]
    )


def _needs(told: dict[str, Any]) -> list[str]:
    from packaging.requirements import Requirement

    lines = map(Requirement, told["requires"])
    return [_canonical(line.name) for line in lines if line.marker is None or line.marker.evaluate({"extra": ""})]


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _cyclonedx() -> Any:
    """The library's classes, as Any: its decorators hide their constructors from a type checker."""
    from cyclonedx.factory.license import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    return SimpleNamespace(
        Bom=Bom,
        Component=Component,
        ComponentType=ComponentType,
        HashAlgorithm=HashAlgorithm,
        HashType=HashType,
        JsonV1Dot6=JsonV1Dot6,
        LicenseFactory=LicenseFactory,
    )

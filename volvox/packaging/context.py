"""The build context of a serving image: everything that is in it, as one folder whose bytes depend on nothing else.

- `Dockerfile`: from the base image; dependencies, then code, then weights.
- `requirements.txt`: what serving needs, pinned; `slim.py` takes out of it what serving never imports.
- `wheels/`: volvox, the model module, and the commands of DEEPaaS by their own names.
- `model/`: the weights; what only training reads stays out.
- `check/`: a held-out image, which the container is asked before the image counts.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from volvox import progress
from volvox.identity import digest_of, files_digest
from volvox.modules.discovery import Module
from volvox.packaging.dockerfile import rendered
from volvox.packaging.requirements import Pin, closure, requirements_text
from volvox.packaging.wheels import build_from_source, build_wheel

PORT = 5000
_TRAINING_ONLY = {".safetensors", ".ckpt"}


@dataclass(frozen=True)
class Recipe:
    """What an image is made of; two equal recipes make the same image.

    Attributes:
        title: The model's name, as people and URLs use it.
        version: Its version number.
        module: The module that answers.
        weights: Folder with the module's weights.
        check: A held-out image.
        base: The image to start from; it has Python and pip.
        gpu: Whether ONNX Runtime is the build for NVIDIA GPUs.
        labels: Labels of the image, by the OCI annotation names.
    """

    title: str
    version: str
    module: Module
    weights: Path
    check: Path
    base: str
    gpu: bool = False
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> str:
        """The image's name without its tag, e.g. `volvox/digits`."""
        return f"volvox/{repository_name(self.title)}"

    @property
    def tag(self) -> str:
        """The image's tag: the version, with `-gpu` behind it for that variant."""
        return f"{self.version}-gpu" if self.gpu else self.version

    @property
    def latest(self) -> str:
        """The tag that moves from version to version."""
        return "latest-gpu" if self.gpu else "latest"

    @property
    def roots(self) -> tuple[str, str]:
        """The distributions that the image is for; everything else is there because they need it."""
        return "volvox", self.module.distribution

    @property
    def pins(self) -> list[Pin]:
        """The dependencies of volvox's server and of the module.

        Raises:
            InvalidInput: If one of them is not installed here.
        """
        return closure(self.roots)


def repository_name(name: str) -> str:
    """`name` as a registry takes it: lower case, digits, and single separators inside."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def serving_code() -> str:
    """Digest of the code that every image carries beside its module; a new one makes a new image."""
    import volvox

    root = Path(volvox.__file__).parent
    own = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return digest_of([distribution("volvox").version, files_digest(root, own)])


def write_context(recipe: Recipe, folder: Path) -> Path:
    """Write the build context of `recipe` into `folder` (made); return it.

    Raises:
        InvalidInput: If a dependency is missing, a wheel cannot be built, or the weights folder holds none.
    """
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    for name in recipe.roots:
        build_wheel(name, wheels)
    build_from_source("volvox-deepaas", _deepaas_commands(), wheels)
    (folder / "requirements.txt").write_text(requirements_text(recipe.pins, gpu=recipe.gpu))
    shutil.copyfile(Path(__file__).parent / "slim.py", folder / "slim.py")
    _copy_weights(recipe.weights, folder / "model")
    (folder / "check").mkdir()
    shutil.copyfile(recipe.check, folder / "check" / f"held-out{recipe.check.suffix.lower()}")
    (folder / ".dockerignore").write_text("check\n")
    (folder / "Dockerfile").write_text(dockerfile(recipe))
    return folder


def dockerfile(recipe: Recipe) -> str:
    """The text of the Dockerfile."""
    return rendered(
        Path(__file__).parent / "Dockerfile.jinja",
        title=repository_name(recipe.title),
        version=recipe.tag,
        repository=recipe.repository,
        base=recipe.base,
        gpu=recipe.gpu,
        port=PORT,
        packages=["volvox", recipe.module.folder.name],
        labels=recipe.labels,
        entrypoint=[
            "volvox", "serve", "--module", recipe.module.name, "--name", recipe.title, "--weights", "/model",
            "--listen-ip", "0.0.0.0", "--listen-port", str(PORT),  # noqa: S104 - inside a container, loopback is unreachable
        ],
    )  # fmt: skip


def image_labels(
    title: str, version: str, metadata: dict[str, Any], digests: dict[str, str], *, base: str
) -> dict[str, str]:
    """The labels of an image by the OCI annotation names, with Volvox's own beside them.

    Args:
        title: The model's name.
        version: Its version number.
        metadata: The module's metadata file.
        digests: What is in the image, for Volvox's own labels: `model`, `dataset`, `code`, ... -> digest.
        base: The image it starts from.
    """
    links = metadata.get("links") if isinstance(metadata.get("links"), dict) else {}
    told = {
        "title": title,
        "version": version,
        "description": metadata.get("summary"),
        "licenses": metadata.get("license"),
        "source": (links or {}).get("source_code"),
        "documentation": (links or {}).get("documentation"),
        "revision": digests.get("code"),
        "base.name": base,
    }
    oci = {f"org.opencontainers.image.{key}": str(value) for key, value in told.items() if value}
    return oci | {f"volvox.{key}": value for key, value in sorted(digests.items())}


def _deepaas_commands() -> Path:
    import volvox

    return Path(volvox.__file__).parent.parent / "deployments" / "deepaas_commands"


def _copy_weights(source: Path, target: Path) -> None:
    files = sorted(path for path in source.rglob("*") if path.is_file())
    # An ONNX export answers alone; a module without one may well predict from what another one only trains with.
    left_out = _TRAINING_ONLY if any(path.suffix == ".onnx" for path in files) else set()
    kept = [path for path in files if path.suffix not in left_out]
    target.mkdir(parents=True, exist_ok=True)
    if not kept:  # a module that never heard of this platform keeps its weights where it likes, or needs none
        progress.note("the training left no weights; the image has what the module itself carries")
        (target / ".empty").touch()  # a context is kept as files: a folder without one would be lost
    for path in kept:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)

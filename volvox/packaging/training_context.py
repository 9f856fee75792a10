"""The two build contexts of a training image, in which a stage runs on a Docker, Kubernetes or ECS pool.

What is seldom new, Python with torch and every other dependency, is an image of its own (`Dependencies`); the training
image stands on it and adds the wheels of volvox and of one model module (`TrainingRecipe`). So a change of code sends
one megabyte to the engine and none of torch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path

from volvox.errors import InvalidInput
from volvox.identity import digest_of, file_digest, files_digest
from volvox.modules.discovery import Module
from volvox.packaging.context import image_labels, repository_name
from volvox.packaging.dockerfile import rendered
from volvox.packaging.fetching import fetch_wheel, needs_cuda
from volvox.packaging.requirements import Pin, closure, provides, requirements_text
from volvox.packaging.wheels import build_wheel

_SLIM = Path(__file__).parent / "slim.py"
_PACKAGES = ("volvox", "flows", "tasks", "blocks", "deployments")
# Where things run is no part of what runs: another pool makes no new image.
_NOT_CODE = ("deployments/pools", "deployments/images", "deployments/constraints.txt", "deployments/prefect.yaml")


@dataclass(frozen=True)
class Dependencies:
    """What a training image stands on.

    Attributes:
        base: The image to start from; it has Python and pip.
        pins: All distributions in it, torch among them.
        gpu: Whether torch is the build of the public index, with CUDA.
        index: Index of PyTorch's wheels for CPUs; empty: what pip's own settings name.
    """

    base: str
    pins: tuple[Pin, ...]
    gpu: bool = False
    index: str = ""

    @cached_property
    def digest(self) -> str:
        """What the image is found by: it changes with everything that is in the image."""
        torch = distribution("torch").version if self.torch else ""  # with its local part: `2.13.0+cpu`
        return digest_of([self._dockerfile(""), self._requirements, file_digest(_SLIM), torch, self.index])

    @property
    def repository(self) -> str:
        """The image's name without its tag."""
        return "volvox/training-dependencies"

    @property
    def name(self) -> str:
        """Repository and tag."""
        return f"{self.repository}:{self.digest[:12]}"

    @property
    def torch(self) -> Pin | None:
        """The pin of torch, if the module trains with it."""
        return next((pin for pin in self.pins if pin.name == "torch"), None)

    def context(self, wheels: Path, cancelled: threading.Event) -> dict[str, Path | bytes]:
        """The files of the build context, by name.

        Args:
            wheels: Folder that keeps downloaded wheels.
            cancelled: Once set, a download ends.

        Raises:
            Cancelled: If it was.
            InvalidInput: If the wheel of torch is not one for CPUs.
            Unavailable: If the index of torch does not answer.
        """
        files: dict[str, Path | bytes] = {
            "Dockerfile": self._dockerfile(self.name).encode(),
            "requirements.txt": self._requirements.encode(),
            "slim.py": _SLIM,
        }
        if self.torch and not self.gpu:
            wheel = fetch_wheel(self.torch, wheels, cancelled, index=self.index)
            if needs_cuda(wheel):
                wheel.unlink()
                raise InvalidInput(
                    f"pip finds {self.torch} with CUDA; set TORCH_INDEX to PyTorch's index of wheels for CPUs "
                    "(https://download.pytorch.org/whl/cpu), or build the image for GPUs"
                )
            files[f"torch/{wheel.name}"] = wheel
        return files

    @property
    def _requirements(self) -> str:
        return requirements_text(pin for pin in self.pins if pin != self.torch)

    def _dockerfile(self, name: str) -> str:
        return rendered(
            _templates() / "dependencies.Dockerfile.jinja",
            base=self.base, torch=str(self.torch or ""), gpu=self.gpu, name=name,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainingRecipe:
    """What a training image is made of; two equal recipes make the same image.

    Attributes:
        module: The model module that is in it.
        base: The image to start from; it has Python and pip.
        gpu: Whether its torch is the build for NVIDIA GPUs.
        index: Index of PyTorch's wheels for CPUs; empty: what pip's own settings name.
    """

    module: Module
    base: str
    gpu: bool = False
    index: str = ""

    @property
    def variant(self) -> str:
        """What the record of the newest image is kept under: the module's name, with `-gpu` behind it for that one."""
        return variant(self.module.name, gpu=self.gpu)

    @property
    def repository(self) -> str:
        """The image's name without its tag, e.g. `volvox/training-image-classifier`."""
        return f"volvox/training-{repository_name(self.module.name)}"

    @property
    def tags(self) -> tuple[str, str]:
        """The tag of this code, and the one that moves."""
        suffix = "-gpu" if self.gpu else ""
        return f"{self.code[:12]}{suffix}", f"latest{suffix}"

    @cached_property
    def code(self) -> str:
        """Digest of the code inside, the module's too."""
        return training_code(self.module)

    @property
    def roots(self) -> tuple[str, str]:
        """What the image is for; everything else is there because they need it."""
        module = self.module.distribution
        return "volvox[job]", f"{module}[train]" if provides(module, "train") else module

    @cached_property
    def dependencies(self) -> Dependencies:
        """The image that it stands on.

        Raises:
            InvalidInput: If a dependency is not installed here.
        """
        pins = tuple(closure(self.roots, "the training image"))
        return Dependencies(self.base, pins, self.gpu, self.index)

    @cached_property
    def digest(self) -> str:
        """Tells this image from others before anything is built."""
        return digest_of([self.code, self.dependencies.digest, self._dockerfile])

    def write(self, folder: Path) -> Path:
        """Write the build context into `folder` (made); return it.

        Raises:
            InvalidInput: If a wheel cannot be built.
        """
        wheels = folder / "wheels"
        wheels.mkdir(parents=True)
        for name in ("volvox", self.module.distribution):
            build_wheel(name, wheels)
        (folder / "Dockerfile").write_text(self._dockerfile)
        return folder

    @property
    def _dockerfile(self) -> str:
        return rendered(
            _templates() / "training.Dockerfile.jinja",
            module=self.module.name,
            dependencies=self.dependencies.name,
            packages=[*_PACKAGES, self.module.folder.name],
            labels=self._labels(),
        )

    def _labels(self) -> dict[str, str]:
        module = self.module
        digests = {
            "code": self.code,
            "module": f"{module.name} {module.version}",
            "module.code": module.code,
            "dependencies": self.dependencies.digest,
        }
        told = {"summary": f"Runs the stages of Volvox with the model module {module.name}."}
        return image_labels(f"training-{module.name}", self.tags[0], told, digests, base=self.base)


def variant(module: str, *, gpu: bool = False) -> str:
    """The key of the record of a module's newest training image."""
    return f"{module}-gpu" if gpu else module


def training_code(module: Module) -> str:
    """Digest of the code that a training image of `module` carries; where it differs, the image is of another day."""
    root = _root()
    own = (path for name in _PACKAGES for path in (root / name).rglob("*") if path.is_file())
    code = [
        path
        for path in own
        if "__pycache__" not in path.parts and not path.relative_to(root).as_posix().startswith(_NOT_CODE)
    ]
    return digest_of([distribution("volvox").version, files_digest(root, code), module.distribution, module.code])


def _root() -> Path:
    import volvox

    return Path(volvox.__file__).parent.parent


def _templates() -> Path:
    return _root() / "deployments" / "images"

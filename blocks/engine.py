"""The container engine that builds serving and training images and proves that they work."""

from __future__ import annotations

import os
import sys

from prefect.blocks.core import Block
from pydantic import Field

from volvox.packaging.engine import Engine

_REGISTRY = r"^$|^[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._/-]+[a-z0-9]+)*)?$"


class ContainerEngine(Block):
    """
    The engine that builds images, what they start from, and where they are pushed.

    Example:
        Ask whether the stored engine can be used:
        ```python
        from blocks.engine import ContainerEngine

        ContainerEngine.load("BLOCK_NAME").open().why_not()
        ```
    """

    _block_type_name = "Volvox container engine"
    _block_type_slug = "volvox-container-engine"

    host: str = Field(
        default="", description="Address of a Docker API, e.g. unix:///var/run/docker.sock; empty: this user's own."
    )
    base_image: str = Field(
        default=f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim",
        description="Image that CPU images start from: Python of this version and pip.",
    )
    gpu_base_image: str = Field(
        default="",
        description="Image that GPU images start from; empty: the CPU's, as CUDA and cuDNN come as wheels.",
    )
    gpu: bool = Field(default=False, description="Whether images are built for NVIDIA GPUs.")
    registry: str = Field(
        default="",
        pattern=_REGISTRY,
        description="Host and path that images are pushed to, e.g. registry.example.org/team; empty: nowhere.",
    )

    torch_index: str = Field(
        default="",
        description="Index of PyTorch's wheels for CPUs, for training images; empty: what pip's own settings name.",
    )

    @classmethod
    def local(cls) -> ContainerEngine:
        """This machine's engine, as ENGINE_BASE_IMAGE, ENGINE_GPU_BASE_IMAGE, VOLVOX_REGISTRY and TORCH_INDEX say."""
        told = {
            "base_image": os.environ.get("ENGINE_BASE_IMAGE"),
            "gpu_base_image": os.environ.get("ENGINE_GPU_BASE_IMAGE"),
            "registry": os.environ.get("VOLVOX_REGISTRY"),
            "torch_index": os.environ.get("TORCH_INDEX"),
        }
        return cls(**{name: value for name, value in told.items() if value})  # pyright: ignore[reportArgumentType]

    @property
    def base(self) -> str:
        """The image that the images of this variant start from."""
        return (self.gpu and self.gpu_base_image) or self.base_image

    def open(self) -> Engine:
        """The engine itself; whether it answers is asked by `why_not()`."""
        return Engine(self.host)

"""What is asked for when a model version is to be served, as it comes over HTTP."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from volvox.serving.deployed import Deployed


class Deployment(BaseModel):
    """A model version and the files that belong to it.

    Attributes:
        name, version, model_version, module, python, labels: As `Deployed`, which says what they may be.
        weights: Folder of the version's weights; copied (by hard links where the disk allows).
        smoke: Files that the new worker must answer before it takes the traffic.
        samples: Images to click on the try page.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str = ""
    model_version: str
    module: str
    python: str = ""
    labels: tuple[str, ...] = ()
    weights: Path | None = None
    smoke: tuple[Path, ...] = ()
    samples: tuple[Path, ...] = Field(default=(), max_length=24)

    @property
    def deployed(self) -> Deployed:
        """What is served.

        Raises:
            InvalidInput: If a field is not what it must be.
        """
        return Deployed(**self.model_dump(include={"name", "version", "model_version", "module", "python", "labels"}))

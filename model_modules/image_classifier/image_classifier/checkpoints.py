"""Checkpoints that survive being killed while one is written, and the one to go on from."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as lightning
import torch

if TYPE_CHECKING:
    from image_classifier.learner import Learner

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"epoch-(\d{5})\.ckpt")
_KEPT = 2
BEST = "best.ckpt"


class Keeper(lightning.Callback):
    """Writes one checkpoint an epoch beside its place and renames it; keeps the newest two and the best.

    Args:
        folder: Where they lie; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Only the process that writes needs the folder."""
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the epoch that has just been validated."""
        learner: Learner = pl_module  # type: ignore[assignment]
        done = trainer.current_epoch + 1
        path = self.folder / f"epoch-{done:05d}.ckpt"
        aside = self.folder / f"{path.name}.part"
        # Every process calls this: Lightning gathers here, and only the first one writes.
        trainer.save_checkpoint(aside, weights_only=False)
        if not trainer.is_global_zero:
            return
        _into_place(aside, path)
        if learner.best_epoch == done - 1:
            copy = self.folder / f"{BEST}.part"
            copy.unlink(missing_ok=True)
            try:
                os.link(path, copy)
            except OSError:  # some file systems know no hard links
                shutil.copyfile(path, copy)
            _into_place(copy, self.folder / BEST)
        for old in sorted(_numbered(self.folder))[:-_KEPT]:
            with contextlib.suppress(FileNotFoundError):
                _numbered(self.folder)[old].unlink()


def newest(folder: Path, identity: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of the training of this identity that can be read, and its content."""
    for _, path in sorted(_numbered(folder).items(), reverse=True):
        if found := _readable(path, identity):
            return path, found
    return None


def best(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Content of the checkpoint with the lowest validation loss, if it can be read and is of this identity."""
    return _readable(folder / BEST, identity) if (folder / BEST).is_file() else None


def _readable(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        same = found["identity"] == identity
    except Exception as error:  # a torn file fails in many ways: zip, pickle, key, end of file
        _LOG.warning("checkpoint %s cannot be read (%s) and is passed over", path, type(error).__name__)
        return None
    if not same:
        _LOG.warning("checkpoint %s is of a training with other arguments or data and is passed over", path)
        return None
    return found


def _numbered(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    return {int(found[1]): path for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))}


def _into_place(aside: Path, path: Path) -> None:
    with aside.open("rb") as stream:
        os.fsync(stream.fileno())
    aside.replace(path)

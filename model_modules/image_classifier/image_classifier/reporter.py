"""Tells how far a training is."""

# ruff: noqa: ARG002 - Lightning calls these with arguments of its own
from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as lightning
import torch

from image_classifier.progress import Progress

if TYPE_CHECKING:
    from image_classifier.learner import Learner

_EVERY_SECONDS = 2.0


class Reporter(lightning.Callback):
    """Writes a line to `progress.jsonl` at the end of each epoch, and every two seconds in between.

    Args:
        output: Folder of `progress.jsonl`.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.images = 0
        self.spent = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock; validation and checkpoints are not part of images per second."""
        self.images, self.spent = 0, 0.0
        self.started = self.told = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count, and say so from time to time."""
        learner: Learner = pl_module  # type: ignore[assignment]
        self.images += learner.batches.size
        if trainer.is_last_batch and learner.device.type == "cuda":
            torch.cuda.synchronize(learner.device)  # batches are only queued until then
        now = time.monotonic()
        self.spent = now - self.started
        if now - self.told >= _EVERY_SECONDS:
            self.told = now
            self._tell(trainer, learner, trainer.current_epoch + (batch_idx + 1) / len(learner.batches), {})

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The epoch's metrics."""
        learner: Learner = pl_module  # type: ignore[assignment]
        self._tell(trainer, learner, trainer.current_epoch + 1, learner.history[-1])

    def _tell(self, trainer: lightning.Trainer, learner: Learner, done: float, metrics: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        progress = Progress(self.output)  # opened anew: an open file does not travel to another process
        progress.tell(
            done,
            learner.recipe.epochs,
            "epochs",
            self.images / max(self.spent, 1e-9),
            epoch=int(done),
            step=trainer.global_step,
            metrics=metrics,
        )
        progress.close()

"""One step of learning and one look at the validation part, as Lightning asks for them."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.nn import functional

from image_classifier import graphs
from image_classifier.augmentation import STRENGTHS, augmented
from image_classifier.network import Classifier
from image_classifier.pixels import Batches, Pixels
from image_classifier.recipe import Recipe, threads

_EPOCH_SEEDS = 1_000_003  # a prime, so that (seed, epoch) rarely meet


class Learner(lightning.LightningModule):
    """Trains `network` by `recipe`.

    Whatever is random is drawn anew for each epoch from (seed, epoch), so that a training that was killed goes on as it
    would have gone; and drawn for the whole batch, of which each process takes its share, so that the number of
    processes changes nothing but the order in which numbers are added up.

    Args:
        network: Takes pixels, gives logits.
        recipe: All decisions.
        parts: Training and validation part.
        weights: Of each class in the loss, shape (classes,).
        identity: Written into each checkpoint; one of another identity is not gone on from.
        beside: How many processes train on this machine.
        recorded: Whether one step is recorded and replayed; on a GPU, for one process, where all weights always learn.

    Attributes:
        history: One dictionary of metrics for each finished epoch.
    """

    class_weights: Tensor

    def __init__(
        self,
        network: Classifier,
        recipe: Recipe,
        parts: tuple[Pixels, Pixels],
        weights: Tensor,
        identity: dict[str, Any],
        *,
        beside: int = 1,
        recorded: bool = False,
    ) -> None:
        super().__init__()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] - a fifth faster
        self.network = network
        self.recipe, self.identity, self.beside, self.recorded = recipe, identity, beside, recorded
        self.batches = Batches(parts[0], recipe.batch_size, shuffled=True, seed=recipe.seed)
        self.held = Batches(parts[1], max(recipe.batch_size, 256), shuffled=False)
        self.register_buffer("class_weights", weights, persistent=False)
        self.history: list[dict[str, float]] = []
        self._totals: dict[str, Tensor] = {}
        self._rate = 0.0

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Take this process' share of each batch, and of the processors."""
        world = self.trainer.world_size
        for batches in (self.batches, self.held):
            batches.rank, batches.world = self.global_rank, world
        if world > 1 and self.trainer.strategy.root_device.type == "cpu":
            torch.set_num_threads(max(1, threads() // self.beside))

    def on_fit_start(self) -> None:
        """Take the images to where the network is, if there is room for them; record a step."""
        for batches in (self.batches, self.held):
            batches.on(self.device)
        size, prepared = self.batches.size, self.batches.pixels.preprocessing
        if self.recorded:
            images = torch.rand(size, prepared.channels, prepared.size, prepared.size, device=self.device) * 255
            factors = torch.ones(size, self.network.head.in_features, device=self.device)
            with self.trainer.precision_plugin.forward_context():
                graphs.record(self.network, images.contiguous(memory_format=torch.channels_last), factors)

    def on_fit_end(self) -> None:
        """Leave the network as it was."""
        graphs.forget(self.network)

    def train_dataloader(self) -> Batches:
        """The training part."""
        return self.batches

    def val_dataloader(self) -> Batches:
        """The validation part."""
        return self.held

    def on_train_epoch_start(self) -> None:
        """Seed the epoch, and let the backbone learn or rest."""
        epoch = self.current_epoch
        self.batches.epoch = epoch
        seed = (self.recipe.seed * _EPOCH_SEEDS + epoch) * 64
        torch.manual_seed((seed + self.global_rank) % 2**63)  # of what timm's backbones draw for themselves
        self._generator = torch.Generator(self.device).manual_seed(seed % 2**63)
        frozen = epoch < self.recipe.freeze_epochs
        backbone = self.network.backbone
        backbone.requires_grad_(not frozen)
        backbone.train(not frozen)  # normalisation keeps its statistics while the backbone rests
        self._totals["train"] = torch.zeros(2, device=self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of one batch, of which the mean over all processes is the loss of the whole batch."""
        pixels, labels = batch
        whole, share, world = self.batches.size, self.batches.share, self.batches.world
        strength = STRENGTHS[self.recipe.augmentation]
        with torch.autocast(self.device.type, enabled=False):
            images = augmented(pixels.float(), strength, self.recipe.flip, self._generator, whole=whole, share=share)
            images = images.contiguous(memory_format=torch.channels_last)
        factors = self.network.dropped(whole, self._generator)
        loss = functional.cross_entropy(
            self.network(images, None if factors is None else factors[share]),
            labels,
            weight=self.class_weights,
            label_smoothing=self.recipe.label_smoothing,
            reduction="sum",
        )
        # Not the mean of the own share: shares may differ in size, and in the weights of the classes in them.
        loss = loss / self.class_weights[self.batches.labels(index).to(labels.device)].sum()
        told = loss.detach()  # nothing from here to the epoch's end waits for the device
        self._totals["train"] += torch.stack([told * whole, torch.full_like(told, whole / world)])
        self._rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return loss * world

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self._totals["val"] = torch.zeros(3, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Add one batch to the sums of loss, hits and images."""
        pixels, labels = batch
        if not len(labels):
            return
        logits = self.network(pixels).float()
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        hits = (logits.argmax(1) == labels).sum()
        self._totals["val"] += torch.stack([loss, hits.to(loss.dtype), torch.full_like(loss, len(labels))])

    def on_validation_epoch_end(self) -> None:
        """Close the epoch's line in `history`, the same in every process; stop early where the recipe says so."""
        train, val = (self.trainer.strategy.reduce(self._totals[part], reduce_op="sum") for part in ("train", "val"))
        train_loss, seen = train.tolist()  # type: ignore[union-attr]
        val_loss, hits, count = val.tolist()  # type: ignore[union-attr]
        if not math.isfinite(train_loss):
            raise RuntimeError(
                f"the training loss is {train_loss} in epoch {self.current_epoch + 1}; train with a lower learning rate"
            )
        self.history.append(
            {
                "train_loss": train_loss / max(seen, 1),
                "val_loss": val_loss / count,
                "val_accuracy": hits / count,
                "learning_rate": self._rate,
            }
        )
        if self.recipe.patience and len(self.history) - 1 - self.best_epoch >= self.recipe.patience:
            self.trainer.should_stop = True

    @property
    def best_epoch(self) -> int:
        """Index of the epoch with the lowest validation loss."""
        return min(range(len(self.history)), key=lambda epoch: self.history[epoch]["val_loss"])

    def configure_optimizers(self) -> Any:
        """AdamW; warm-up, then a cosine down to 0, both by step.

        Source:
            Loshchilov and Hutter 2017, "SGDR", eq. 5, without restarts; 2019, "Decoupled Weight Decay Regularization".
        """
        weights = [parameter for parameter in self.network.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.network.parameters() if parameter.ndim <= 1]
        decay = self.recipe.weight_decay
        groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        fused = self.device.type == "cuda"  # one kernel a step instead of a dozen
        optimizer = torch.optim.AdamW(groups, lr=self.recipe.learning_rate, fused=fused)
        steps = self.recipe.epochs * len(self.batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, Schedule(steps, round(steps * self.recipe.warmup)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The identity and the history travel with the weights."""
        checkpoint["identity"] = self.identity
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the history where it was left."""
        self.history = list(checkpoint["history"])


class Schedule:
    """Factor of the learning rate at a step; a class and no closure, so that it travels to other processes."""

    def __init__(self, steps: int, warmup: int) -> None:
        self.steps, self.warmup = steps, warmup

    def __call__(self, step: int) -> float:
        """In [0, 1]; `step` counts from 0."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

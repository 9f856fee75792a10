"""From a folder of labelled images to a version on disk."""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor
from webargs import ValidationError

from image_classifier import checkpoints, data, export, published, recipe
from image_classifier.learner import Learner
from image_classifier.network import Classifier, architecture, check_backbone, resized
from image_classifier.pixels import Pixels
from image_classifier.preprocessing import Preprocessing
from image_classifier.recipe import Recipe
from image_classifier.reporter import Reporter

_LOG = logging.getLogger(__name__)
_COMPARED = 256
_MANY = 20_000
_WORTH_COMPILING = 1_000_000


@dataclass(frozen=True)
class _Task:
    """A training that is fully decided.

    Attributes:
        plan: All decisions.
        network: Changed in place.
        train: Part to learn from.
        val: Part to validate on.
        output: Gets progress.
        kept: Gets checkpoints.
        arguments: Of train(); those that say how to compute, not what.
        identity: What a checkpoint has to agree with to be gone on from.
    """

    plan: Recipe
    network: Classifier
    train: Pixels
    val: Pixels
    output: Path
    kept: Path
    arguments: dict[str, Any]
    identity: dict[str, Any]


def train(
    folder: Path, output: Path, kept: Path | None, weights: Path | None, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Train on `folder` and write a version into `output`; see `api.train`."""
    check_backbone(arguments["backbone"])
    started = published.card(weights) if weights else None
    dataset = data.read(folder, arguments["seed"])
    same_head = started is not None and started["classes"] == dataset.classes
    plan = recipe.chosen(arguments, dataset, started, same_head)
    network, preprocessing, pixels, held = _prepared(plan, dataset, started, arguments)
    if weights:
        published.load_into(network, weights, keep_head=same_head)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        kept = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkpoints-")))
        start = published.digest(weights) if weights else "timm" if network.architecture.get("pretrained") else ""
        identity = {**plan.to_json(), "data": dataset.digest(), "weights": start}
        task = _Task(plan, network, pixels, held, output, kept, arguments, identity)
        metrics, resumed = _learnt(task)
    images, _ = held.take(list(range(min(_COMPARED, len(held)))))
    card = export.write(
        network,
        output,
        architecture=network.architecture,
        dataset=dataset,
        preprocessing=preprocessing,
        images=images,
        recipe=plan.to_json(),
        metrics=metrics,
    )
    return {
        "modelname": output.name,
        "metrics": metrics,
        "classes": dataset.classes,
        "recipe": plan.to_json(),
        "images": {"train": len(dataset.train), "val": len(dataset.val)},
        "onnx_difference": card["onnx"]["largest_difference"],
        "resumed_from_epoch": resumed,
    }


def _prepared(
    plan: Recipe, dataset: data.Dataset, started: dict[str, Any] | None, arguments: dict[str, Any]
) -> tuple[Classifier, Preprocessing, Pixels, Pixels]:
    """The network, untrained, and the images that it takes."""
    workers = arguments.get("workers") or recipe.threads()
    channels = int(started["preprocessing"]["channels"]) if started else 3
    draft = Preprocessing(plan.image_size, channels, (0.5,) * channels, (0.25,) * channels, plan.resize)
    pixels, held = (Pixels(dataset.images, part, draft, workers) for part in (dataset.train, dataset.val))
    if started:
        mean, std = (list(started["preprocessing"][name]) for name in ("mean", "std"))
        shape = resized(started["architecture"], plan.image_size)
    else:
        mean, std = pixels.statistics()
        shape = architecture(plan.backbone, plan.image_size, pretrained=arguments["pretrained"])
    torch.manual_seed(plan.seed)
    network = Classifier(shape, len(dataset.classes), mean, std)
    return network, replace(draft, mean=tuple(mean), std=tuple(std)), pixels, held


def _learnt(task: _Task) -> tuple[dict[str, float], int]:
    """Do what is left of a training; metrics of the weights that it ends with, and the epochs that were done before."""
    plan, identity = task.plan, task.identity
    found = checkpoints.newest(task.kept, identity)
    done = len(found[1]["history"]) if found else 0
    if found:
        _LOG.info("goes on after epoch %d of %d", done, plan.epochs)
    if not found or not (done >= plan.epochs or stopped_early(found[1]["history"], plan.patience)):
        _fit(task, found[0] if found else None)
        found = checkpoints.newest(task.kept, identity)
        if not found:
            raise RuntimeError(f"training left no readable checkpoint in {task.kept}; is the disk full?")
    epochs, final = len(found[1]["history"]), found[1]
    if plan.patience:  # who may stop early has the last epochs no better than the best one
        final = checkpoints.best(task.kept, identity) or final
    weights = {name.removeprefix("network."): value for name, value in final["state_dict"].items()}
    task.network.load_state_dict(weights)
    last = final["history"][-1]
    return {**{name: last[name] for name in ("val_accuracy", "val_loss", "train_loss")}, "epochs": epochs}, done


def _fit(task: _Task, start: Path | None) -> None:
    """Train from `start`, or from the first epoch; what it ends with lies in the checkpoints."""
    plan, arguments = task.plan, task.arguments
    on_gpu, devices = _devices(arguments, plan, len(task.train))
    worth = on_gpu and plan.epochs * len(task.train) >= _WORTH_COMPILING
    learner = Learner(
        task.network,
        plan,
        (task.train, task.val),
        class_weights(task.train.labels, task.network.head.out_features, plan.class_weights),
        task.identity,
    )
    if arguments["compile"] == "true" or (arguments["compile"] == "auto" and worth):
        task.network.compile()
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what it says of itself interests nobody here
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(pytorch_lightning|lightning_fabric)")
        trainer = lightning.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=devices,
            strategy=_strategy(devices, plan.freeze_epochs),
            precision=_precision(arguments["precision"], on_gpu),
            max_epochs=plan.epochs,
            callbacks=[Reporter(task.output), checkpoints.Keeper(task.kept)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            benchmark=on_gpu,
        )
        trainer.fit(learner, ckpt_path=start, weights_only=True)


def stopped_early(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation loss; never for 0."""
    best = min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])
    return bool(patience) and len(history) - 1 - best >= patience


def class_weights(labels: Tensor, classes: int, exponent: float) -> Tensor:
    """(mean size / size) ** exponent for each class, shape (classes,); a class without images counts as one image."""
    sizes = torch.bincount(labels, minlength=classes).clamp(min=1).float()
    return (sizes.mean() / sizes) ** exponent


def _devices(arguments: dict[str, Any], plan: Recipe, count: int) -> tuple[bool, int]:
    """Whether to use GPUs, and how many devices.

    Raises:
        ValidationError: If there are not so many.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if arguments["accelerator"] == "gpu" and not there:
        raise ValidationError({"accelerator": ["There is no GPU here; ask for cpu or auto."]})
    on_gpu = there > 0 and arguments["accelerator"] != "cpu"
    asked = arguments["devices"]
    automatic = there if on_gpu and count >= _MANY else 1
    devices = automatic if asked == "auto" else int(asked)
    if on_gpu and devices > there:
        raise ValidationError({"devices": [f"There are {there} GPUs here; ask for that many or fewer."]})
    if devices > plan.batch_size:
        raise ValidationError({"devices": [f"{devices} devices cannot share a batch of {plan.batch_size}."]})
    return on_gpu, devices


def _strategy(devices: int, freeze_epochs: int) -> Any:
    if devices == 1:
        return "auto"
    from pytorch_lightning.strategies import DDPStrategy

    # Spawned, not started anew from the command line, which would run whatever called train() once a process.
    return DDPStrategy(start_method="spawn", find_unused_parameters=freeze_epochs > 0, timeout=timedelta(minutes=10))


def _precision(asked: str, on_gpu: bool) -> Any:
    if asked == "bf16" or (asked == "auto" and on_gpu and torch.cuda.is_bf16_supported()):
        return "bf16-mixed"
    return "32-true"

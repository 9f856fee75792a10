"""From a folder of labelled images to a version on disk."""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from image_classifier import checkpoints, data, export, published, recipe
from image_classifier.learner import Learner
from image_classifier.network import Classifier, architecture, check_backbone
from image_classifier.pixels import Batches, Pixels
from image_classifier.preprocessing import Preprocessing
from image_classifier.recipe import Recipe
from image_classifier.reporter import Reporter

_LOG = logging.getLogger(__name__)
_COMPARED = 256
_MANY = 20_000
_WORTH_COMPILING = 1_000_000


def train(folder: Path, output: Path, kept: Path | None, weights: Path | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """Train on `folder` and write a version into `output`; see `api.train`."""
    check_backbone(arguments["backbone"])
    started = published.card(weights) if weights else None
    dataset = data.read(folder, arguments["seed"])
    same_head = bool(started) and started["classes"] == dataset.classes
    plan = recipe.chosen(arguments, dataset, started, same_head)
    network, preprocessing, train_pixels, val_pixels = _prepared(plan, dataset, started, arguments)
    if weights:
        published.load_into(network, weights, keep_head=same_head)
    with ExitStack() as stack:
        kept = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkpoints-")))
        history, resumed = _learnt(plan, network, train_pixels, val_pixels, output, kept, arguments)
    last = history[-1]
    metrics = {name: last[name] for name in ("val_accuracy", "val_loss", "train_loss")} | {"epochs": len(history)}
    images, _ = val_pixels.take(list(range(min(_COMPARED, len(val_pixels)))))
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
    train_pixels = Pixels(dataset.images, dataset.train, draft, workers)
    val_pixels = Pixels(dataset.images, dataset.val, draft, workers)
    if started:
        mean, std = (list(started["preprocessing"][name]) for name in ("mean", "std"))
        shape = started["architecture"]
    else:
        mean, std = train_pixels.statistics()
        shape = architecture(plan.backbone, plan.image_size, pretrained=arguments["pretrained"])
    preprocessing = Preprocessing(plan.image_size, channels, tuple(mean), tuple(std), plan.resize)
    torch.manual_seed(plan.seed)
    return Classifier(shape, len(dataset.classes), mean, std), preprocessing, train_pixels, val_pixels


def _learnt(
    plan: Recipe,
    network: Classifier,
    train_pixels: Pixels,
    val_pixels: Pixels,
    output: Path,
    kept: Path,
    arguments: dict[str, Any],
) -> tuple[list[dict[str, float]], int]:
    """Train `network` in place, or what is left of it; the metrics of each epoch, and how many were done before."""
    identity = plan.to_json()
    found = checkpoints.newest(kept, identity)
    done = len(found[1]["history"]) if found else 0
    if found:
        _LOG.info("goes on after epoch %d of %d", done, plan.epochs)
    if not found or not (done >= plan.epochs or _stopped_early(found[1]["history"], plan.patience)):
        _fit(plan, network, train_pixels, val_pixels, output, kept, found[0] if found else None, arguments)
        found = checkpoints.newest(kept, identity)
        if not found:
            raise RuntimeError(f"training left no readable checkpoint in {kept}; is the disk full?")
    final = found[1]
    if plan.patience:  # stopping early means that the last epochs were no better
        final = checkpoints.best(kept, identity) or final
    state = {name.removeprefix("network."): value for name, value in final["state_dict"].items()}
    network.load_state_dict(state)
    return final["history"], done


def _fit(
    plan: Recipe,
    network: Classifier,
    train_pixels: Pixels,
    val_pixels: Pixels,
    output: Path,
    kept: Path,
    start: Path | None,
    arguments: dict[str, Any],
) -> None:
    on_gpu, devices = _devices(arguments, plan, len(train_pixels))
    compiled = arguments["compile"]
    learner = Learner(
        network,
        plan,
        Batches(train_pixels, plan.batch_size, shuffled=True, seed=plan.seed),
        _class_weights(train_pixels.labels, network.head.out_features, plan.class_weights),
        compiled == "true" or (compiled == "auto" and on_gpu and plan.epochs * len(train_pixels) >= _WORTH_COMPILING),
    )
    held = Batches(val_pixels, max(plan.batch_size, 256), shuffled=False)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what it says of itself interests nobody here
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(pytorch_lightning|lightning_fabric)")
        warnings.filterwarnings("ignore", message=".*(does not have many workers|LeafSpec|srun).*")
        trainer = lightning.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=devices,
            strategy=_strategy(devices, plan.freeze_epochs),
            precision=_precision(arguments["precision"], on_gpu),
            max_epochs=plan.epochs,
            callbacks=[Reporter(output), checkpoints.Keeper(kept)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            benchmark=on_gpu,
        )
        trainer.fit(learner, learner.batches, held, ckpt_path=start, weights_only=True)


def _stopped_early(history: list[dict[str, float]], patience: int) -> bool:
    best = min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])
    return bool(patience) and len(history) - 1 - best >= patience


def _class_weights(labels: Tensor, classes: int, exponent: float) -> Tensor:
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
        raise data.ValidationError({"accelerator": ["There is no GPU here; ask for cpu or auto."]})
    on_gpu = there > 0 and arguments["accelerator"] != "cpu"
    asked = arguments["devices"]
    if asked == "auto":
        devices = there if on_gpu and count >= _MANY else 1
    else:
        devices = int(asked)
    if on_gpu and devices > there:
        raise data.ValidationError({"devices": [f"There are {there} GPUs here; ask for that many or fewer."]})
    if devices > plan.batch_size:
        raise data.ValidationError({"devices": [f"A batch of {plan.batch_size} cannot be shared by {devices} devices."]})
    return on_gpu, devices


def _strategy(devices: int, freeze_epochs: int) -> Any:
    if devices == 1:
        return "auto"
    from pytorch_lightning.strategies import DDPStrategy

    # Spawned, not started anew from the command line, which would run whatever called train() once a process.
    return DDPStrategy(
        start_method="spawn", find_unused_parameters=freeze_epochs > 0, timeout=timedelta(minutes=10)
    )


def _precision(asked: str, on_gpu: bool) -> Any:
    if asked == "bf16" or (asked == "auto" and on_gpu and torch.cuda.is_bf16_supported()):
        return "bf16-mixed"
    return "32-true"

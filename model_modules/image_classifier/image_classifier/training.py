"""From a folder of labelled images to a version on disk."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor
from webargs import ValidationError

from image_classifier import checkpoints, data, export, normalisation, processes, published, recipe
from image_classifier.learner import Learner
from image_classifier.network import SMALL, Classifier, architecture, check_backbone, resized
from image_classifier.pixels import Batches, Pixels
from image_classifier.preprocessing import Preprocessing
from image_classifier.processes import Place
from image_classifier.recipe import Recipe
from image_classifier.reporter import Reporter

_LOG = logging.getLogger(__name__)
_COMPARED = 256
_MANY = 20_000
_WORTH_RECORDING = 200_000  # images; it takes up to six seconds on an H100, and saves 40 microseconds an image


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
        place: Of this process among those that somebody started to train together.
        on_gpu: Whether to use GPUs.
        devices: How many processes to start here, where nobody has started several.
    """

    plan: Recipe
    network: Classifier
    train: Pixels
    val: Pixels
    output: Path
    kept: Path
    arguments: dict[str, Any]
    identity: dict[str, Any]
    place: Place
    on_gpu: bool
    devices: int

    @property
    def world(self) -> int:
        """How many processes share each batch."""
        return max(self.place.world, self.devices)


def train(
    folder: Path, output: Path, kept: Path | None, weights: Path | None, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Train on `folder` and write a version into `output`; see `api.train`."""
    place = processes.place()
    check_backbone(arguments["backbone"])
    started = published.card(weights) if weights else None
    dataset = data.read(folder, arguments["seed"])
    same_head = started is not None and started["classes"] == dataset.classes
    plan = recipe.chosen(arguments, dataset, started, same_head)
    on_gpu, devices = _devices(arguments, plan, len(dataset.train), place)
    network, preprocessing, pixels, held = _prepared(plan, dataset, started, arguments, place)
    if weights:
        published.load_into(network, weights, keep_head=same_head)
    if place.first:
        output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not (kept and place.first):
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkpoints-")))
        start = published.digest(weights) if weights else "timm" if network.architecture.get("pretrained") else ""
        identity = {**plan.to_json(), "data": dataset.digest(), "weights": start}
        task = _Task(plan, network, pixels, held, output, kept, arguments, identity, place, on_gpu, devices)
        stack.enter_context(processes.joined(place, _gpu(place) if on_gpu else None))
        processes.agree(place, identity)
        metrics, resumed = _learnt(task)
    if not place.first:
        return {"rank": place.rank}
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
    plan: Recipe, dataset: data.Dataset, started: dict[str, Any] | None, arguments: dict[str, Any], place: Place
) -> tuple[Classifier, Preprocessing, Pixels, Pixels]:
    """The network, untrained, and the images that it takes."""
    workers = arguments.get("workers") or recipe.threads()
    channels = int(started["preprocessing"]["channels"]) if started else 3
    draft = Preprocessing(plan.image_size, channels, (0.5,) * channels, (0.25,) * channels, plan.resize)
    pixels, held = (
        Pixels(dataset.images, part, draft, workers, beside=place.local_world) for part in (dataset.train, dataset.val)
    )
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
    """Do what is left of a training; metrics of the weights that it ends with, and the epochs that were done before.

    Only the first of several processes has checkpoints: it hands the others what they go on from, and nobody else
    knows in the end what was learnt.
    """
    plan, identity, first = task.plan, task.identity, task.place.first
    found = checkpoints.newest(task.kept, identity) if first else None
    done = len(found[1]["history"]) if found else 0
    if found:
        _LOG.info("goes on after epoch %d of %d", done, plan.epochs)
    start = found[0] if found else None
    finished = found is not None and (done >= plan.epochs or stopped_early(found[1]["history"], plan.patience))
    several = task.place.world > 1
    finished, content = processes.from_first(
        task.place, (finished, start.read_bytes() if several and start and not finished else None)
    )
    if content is not None and not first:
        start = task.kept / "start.ckpt"
        start.write_bytes(content)
    if not finished:
        _fit(task, start)
        found = checkpoints.newest(task.kept, identity) if first else None
    if not first:
        return {}, 0
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
    on_gpu, place = task.on_gpu, task.place
    network = task.network
    compiled, recorded = _faster(task)
    if task.world > 1:
        network = copy.deepcopy(network)  # the one that is exported stays as it is
        normalisation.share_statistics(network)
    learner = Learner(
        network,
        plan,
        (task.train, task.val),
        class_weights(task.train.labels, task.network.head.out_features, plan.class_weights),
        task.identity,
        beside=max(place.local_world, task.devices),
        recorded=recorded,
    )
    if compiled:
        network.compile()
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what it says of itself interests nobody here
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(pytorch_lightning|lightning_fabric)")
        for harmless in ("The AccumulateGrad node's stream", "Attempting to run cuBLAS"):  # of recorded steps
            warnings.filterwarnings("ignore", message=harmless)
        trainer = lightning.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=[_gpu(place)] if on_gpu and place.world > 1 else task.devices,
            strategy=_strategy(task),
            plugins=[processes.environment()] if place.world > 1 else None,
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


def _faster(task: _Task) -> tuple[bool, bool]:
    """Whether the network is compiled, and whether its steps are recorded instead.

    Nothing that was measured on an H100 became faster by compiling. A recording wants batches of one size, and weights
    that all learn from the beginning; the small network is known to stand it.
    """
    plan, asked = task.plan, task.arguments["compile"]
    if asked != "auto":
        return asked == "true", False
    alone = task.on_gpu and task.world == 1
    fits = plan.backbone == SMALL and not plan.freeze_epochs and task.network.dropout > 0
    return False, alone and fits and plan.epochs * len(task.train) >= _WORTH_RECORDING


def stopped_early(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation loss; never for 0."""
    best = min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])
    return bool(patience) and len(history) - 1 - best >= patience


def class_weights(labels: Tensor, classes: int, exponent: float) -> Tensor:
    """(mean size / size) ** exponent for each class, shape (classes,); a class without images counts as one image."""
    sizes = torch.bincount(labels, minlength=classes).clamp(min=1).float()
    return (sizes.mean() / sizes) ** exponent


def _devices(arguments: dict[str, Any], plan: Recipe, count: int, place: Place) -> tuple[bool, int]:
    """Whether to use GPUs, and how many processes to start here: one, where somebody else has started several.

    Raises:
        ValidationError: If there are not so many devices, or the batches cannot be shared.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if arguments["accelerator"] == "gpu" and not there:
        raise ValidationError({"accelerator": ["There is no GPU here; ask for cpu or auto."]})
    on_gpu = there > 0 and arguments["accelerator"] != "cpu"
    asked = arguments["devices"]
    automatic = there if on_gpu and count >= _MANY else 1
    devices = automatic if asked == "auto" else int(asked)
    if place.world > 1:
        if asked not in ("auto", str(place.world)):
            message = f"{place.world} processes were started already, not {asked}; leave this at auto."
            raise ValidationError({"devices": [message]})
        devices = 1
    elif on_gpu and devices > there:
        raise ValidationError({"devices": [f"There are {there} GPUs here; ask for that many or fewer."]})
    _check_shares(arguments, plan, count, max(place.world, devices))
    return on_gpu, devices


def _check_shares(arguments: dict[str, Any], plan: Recipe, count: int, world: int) -> None:
    """Nothing, if `world` processes can share the batches.

    Raises:
        ValidationError: If not.
    """
    size = arguments.get("batch_size")
    if size and size % world:
        fewer, more = size // world * world, (size // world + 1) * world
        these = f"{fewer} or {more}" if fewer else str(more)
        message = f"A batch of {size} cannot be shared evenly by {world} processes; ask for {these}."
        raise ValidationError({"batch_size": [message]})
    real = Batches.size_of(count, plan.batch_size)
    if real < world:
        message = f"{count} images to learn from make batches of {real}, which {world} processes cannot share; "
        raise ValidationError({"devices": [f"{message}train in {real} or fewer, or on more images."]})


def _gpu(place: Place) -> int:
    """Which GPU is this process': the one with its number, or the only one that it was given."""
    return place.local_rank % torch.cuda.device_count()


def _strategy(task: _Task) -> Any:
    if task.world == 1:
        return "auto"
    from pytorch_lightning.strategies import DDPStrategy

    # Spawned, not started anew from the command line, which would run whatever called train() once a process.
    return DDPStrategy(
        start_method="popen" if task.place.world > 1 else "spawn",
        find_unused_parameters=task.plan.freeze_epochs > 0,
        timeout=processes.TIMEOUT,
    )


def _precision(asked: str, on_gpu: bool) -> Any:
    if asked == "bf16" or (asked == "auto" and on_gpu and torch.cuda.is_bf16_supported()):
        return "bf16-mixed"
    return "32-true"

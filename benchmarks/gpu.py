"""What a GPU makes of a training of the image classifier: `python -m benchmarks.gpu [--quick] [--json]`.

The same recipe on the same images, on the processor and on the GPU, in 32 bits and in bfloat16, compiled and not; each
contestant in a process of its own with an empty compiler cache. Beside it a loop of bare steps over images that lie on
the GPU already, and the same step replayed as a CUDA graph, which is what the device itself can do.

Where `torch.compile` pays, and where recording a step does, is worked out from what the first epoch takes longer and
what an image takes less.

It needs the module and what it trains with, nothing of the platform: where the module is not installed,
`PYTHONPATH=model_modules/image_classifier` will do. What cannot be measured here is skipped, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

SMALL = "resnet-small"
NETWORKS = (f"{SMALL}@64", "timm:resnet18@64", "timm:resnet18@224")  # and the size of the images that they take
SIDE, CLASSES, EACH, BATCH, EPOCHS = 64, 20, 480, 128, 5  # a fifth of each class validates
LIMIT_SECONDS = 600

CPU = {"accelerator": "cpu", "precision": "32", "compile": "false"}
GPU = {**CPU, "accelerator": "gpu"}
BF16 = {**GPU, "precision": "bf16"}
COMPILED = {**BF16, "compile": "true"}
RECORDED = {**BF16, "compile": "auto"}
CONTESTANTS = {
    "CPU fp32": CPU,
    "GPU fp32": GPU,
    "GPU bf16": BF16,
    "GPU bf16 compiled": COMPILED,
    "GPU bf16 recorded": RECORDED,
    "GPU bf16 decoding": BF16,
}
STREAMED = "GPU bf16 decoding"  # as where memory is too small to keep the images
ONCE = ("CPU fp32", "GPU bf16 recorded", STREAMED)  # of the small network only


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        contestant: One of `CONTESTANTS`; empty for the bare steps.
        workload: Name of the data, for the table.
        folder: Of the data.
        network: Backbone as the module names it, and the size of the images.
        arguments: Of train().
    """

    contestant: str
    workload: str
    folder: str
    network: str
    arguments: dict[str, Any]

    @property
    def title(self) -> str:
        """What the tables call it."""
        return f"{self.workload}, {self.network}, {self.contestant or 'bare steps'}"


def main() -> int:
    """Measure, print the tables; return the exit code."""
    options = _options()
    missing = _missing()
    with tempfile.TemporaryDirectory(prefix="gpu-") as place:
        jobs = _jobs(options, Path(place, "made"))
        skipped = [job for job in jobs if reason(job, missing)]
        print("".join(f"skipped: {job.title}: {reason(job, missing)}\n" for job in skipped), end="")
        jobs = [job for job in jobs if job not in skipped]
        size = (4, 40, 32) if options.quick else (CLASSES, EACH, SIDE)
        began = time.monotonic()
        write_data(Path(place, "made"), *size)
        print(f"made {size[0]} x {size[1]} images of {size[2]} pixels in {time.monotonic() - began:.1f} s", flush=True)
        results = [_in_a_process(job, Path(place)) for job in jobs]
    trained = [found for found in results if found.get("epochs")]
    ways = _ways(trained)
    _print_tables(trained, [found for found in results if "steps" in found], ways)
    if options.json:
        print(json.dumps({"missing": missing, "results": results, "ways": ways}))
    return int(any("failed" in found for found in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small images, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one line of JSON last")
    parser.add_argument("--data", type=Path, action="append", default=[], help="images of your own too, a folder each")
    parser.add_argument("--only", action="append", help=f"one of {', '.join(CONTESTANTS)}, bare")
    parser.add_argument("--backbone", action="append", help=f"NAME@SIZE, instead of {' '.join(NETWORKS)}")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job = Job(**json.loads(options.job))
        print(json.dumps(_trained(job) if job.contestant else _bare(job)))
        sys.exit()
    return options


def _missing() -> dict[str, str]:
    """What this machine lacks, and why."""
    import torch

    missing = {}
    if not torch.cuda.is_available():
        missing["gpu"] = "there is no GPU here"
    try:
        import timm  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport] - an extra
    except (ImportError, RuntimeError) as error:
        missing["timm"] = f"timm cannot be imported here ({error})"
    return missing


def reason(job: Job, missing: dict[str, str]) -> str:
    """Why `job` cannot be measured here, or nothing."""
    if job.network.startswith("timm:") and "timm" in missing:
        return missing["timm"]
    return missing.get("gpu", "") if job.contestant.startswith("GPU") else ""


def _jobs(options: argparse.Namespace, made: Path) -> list[Job]:
    common = {"epochs": 2, "batch_size": 32} if options.quick else {"epochs": EPOCHS, "batch_size": BATCH}
    jobs = []
    for network in options.backbone or NETWORKS[: 1 if options.quick else None]:
        backbone, _, size = network.partition("@")
        common |= {"backbone": backbone, "image_size": size}
        for name, arguments in CONTESTANTS.items():
            if backbone == SMALL or name not in ONCE:
                jobs.append(Job(name, "made", str(made), network, {**common, **arguments}))
        batches = (32,) if options.quick else (128, 1024)
        jobs.append(Job("", "made", "", network, {"batches": batches, "backbone": backbone, "size": int(size)}))
    for folder in options.data:
        # The recipe that the module chooses for these images, which are few: on what does the GPU pay?
        for name in ("CPU fp32", "GPU fp32", "GPU bf16"):
            jobs.append(Job(name, folder.name.strip("."), str(folder.absolute()), f"{SMALL}@auto", CONTESTANTS[name]))
    return [job for job in jobs if not options.only or (job.contestant or "bare") in options.only]


def write_data(folder: Path, classes: int, each: int, side: int) -> None:
    """Waves under noise: a class is a direction and a frequency, one folder a class below `images/`."""
    from PIL import Image

    rows, columns = np.mgrid[0:side, 0:side] / side

    def write(label: int) -> None:
        random = np.random.default_rng(label)
        angle, frequency = np.pi * (label % 5) / 5, 3 * 1.45 ** (label // 5)
        place = folder / "images" / f"wave-{label:02d}"
        place.mkdir(parents=True)
        for number in range(each):
            turned = angle + random.normal(0, 0.1)
            phase = frequency * (columns * np.cos(turned) + rows * np.sin(turned)) + random.random()
            wave = np.sin(2 * np.pi * phase)[..., None] * random.uniform(-1, 1, 3)
            pixels = 128 + 50 * wave + random.normal(0, 45, (side, side, 3)).astype(np.float32)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(place / f"{number:05d}.png", compress_level=1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(classes)))


def _in_a_process(job: Job, place: Path) -> dict[str, Any]:
    """What `job` measured, in a process that nobody has warmed up."""
    with tempfile.TemporaryDirectory(dir=place) as cache:
        caches = {"TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton"}
        command = [sys.executable, "-m", "benchmarks.gpu", "--job", json.dumps(asdict(job))]
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=LIMIT_SECONDS,
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **caches},
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {"failed": done.stderr[-2000:]}
        except subprocess.TimeoutExpired:
            found = {"failed": f"took more than {LIMIT_SECONDS} s"}
    told = {"contestant": job.contestant, "workload": job.workload, "network": job.network, **found}
    print(f"{job.title}: {time.monotonic() - began:.1f} s {json.dumps(found)}", flush=True)
    return told


def _trained(job: Job) -> dict[str, Any]:
    """One training: what it learnt and where the time went."""
    import torch
    from image_classifier import api, training

    times: dict[str, list[float]] = {"fit": [], "began": [], "trained": [], "ended": []}
    busy = _Busy()

    def at(moment: str) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        times[moment].append(time.monotonic())

    class Clock(training.Reporter):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - Lightning's signature
            at("fit")

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            at("began")
            if len(times["began"]) == 2 and pl_module.device.type == "cuda":
                busy.start()
            super().on_train_epoch_start(trainer, pl_module)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            if trainer.is_last_batch:
                at("trained")

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            at("ended")
            super().on_train_epoch_end(trainer, pl_module)

    with ExitStack() as stack:
        output = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(training, "Reporter", Clock))
        stack.enter_context(patch.object(training, "_WORTH_RECORDING", 0))
        if job.contestant == STREAMED:
            stack.enter_context(patch("image_classifier.pixels.free_memory", lambda: 0))
        began = time.monotonic()
        told = api.train(data=job.folder, output=output, **job.arguments)
        total = time.monotonic() - began
        lines = (json.loads(line) for line in Path(output, "progress.jsonl").read_text().splitlines())
        reported = [line["images_per_second"] for line in lines if line["metrics"]]
    # What is prepared for the steps, a recording too, counts as part of the first epoch.
    starts = [times["fit"][0], *times["began"][1:]]
    whole = [end - start for start, end in zip(starts, times["ended"], strict=True)]
    learning = [end - start for start, end in zip(times["began"], times["trained"], strict=True)]
    steady = statistics.median(learning[1:] or learning)
    return {
        "device": torch.cuda.get_device_name() if job.arguments["accelerator"] == "gpu" else f"{os.cpu_count()} cores",
        "torch": torch.__version__,
        "images": told["images"]["train"],
        "epochs": len(whole),
        "images_per_second": round(told["images"]["train"] / steady),
        "reported_images_per_second": round(statistics.median(reported[1:] or reported)),
        "before_seconds": round(times["fit"][0] - began, 2),
        "first_epoch_seconds": round(whole[0], 3),
        "epoch_seconds": round(statistics.median(whole[1:] or whole), 4),
        "total_seconds": round(total, 2),
        "val_accuracy": told["metrics"]["val_accuracy"],
        "val_loss": told["metrics"]["val_loss"],
        "onnx_difference": told["onnx_difference"],
        "gpu_busy": busy.stop(),
    }


class _Busy:
    """Share of the time in which the GPU computed anything, as its driver tells it."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        """From now on."""
        self.thread.start()

    def stop(self) -> float | None:
        """In [0, 1]; nothing where the driver cannot be asked or was not asked often enough."""
        self.over.set()
        return round(statistics.mean(self.seen) / 100, 2) if len(self.seen) > 3 else None

    def _look(self) -> None:
        import torch

        try:
            while not self.over.wait(0.1):
                self.seen.append(torch.cuda.utilization())
        except Exception as error:  # pynvml is missing, or the machine hides its counters
            print(f"the driver tells nothing: {error}", file=sys.stderr)


def _bare(job: Job) -> dict[str, Any]:
    """Images per second of steps with nothing around them: no images to fetch, no changes to them, no Lightning."""
    import torch

    if not torch.cuda.is_available():
        return {"steps": [_steps(job, batch, "CPU fp32", 3) for batch in job.arguments["batches"]]}
    names = ("GPU fp32", "GPU bf16")
    return {"steps": [_steps(job, batch, name, 100) for batch in job.arguments["batches"] for name in names]}


def _steps(job: Job, batch: int, name: str, count: int) -> dict[str, Any]:
    import torch
    from image_classifier.network import Classifier, architecture
    from torch.nn import functional

    device = torch.device("cuda" if name.startswith("GPU") else "cpu")
    on_gpu, backbone, size = device.type == "cuda", job.arguments["backbone"], job.arguments["size"]
    torch.backends.cudnn.benchmark = True
    network = Classifier(architecture(backbone, size), CLASSES, [0.5] * 3, [0.2] * 3)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), fused=on_gpu, capturable=on_gpu)
    images = torch.rand(batch, 3, size, size, device=device).mul_(255).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in name):
            loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()

    def rate(once: Any) -> int:
        for _ in range(count // 5 + 1):
            once()
        if on_gpu:
            torch.cuda.synchronize()
        began = time.monotonic()
        for _ in range(count):
            once()
        if on_gpu:
            torch.cuda.synchronize()
        return round(count * batch / (time.monotonic() - began))

    told = {"contestant": name, "batch": batch, "loop": rate(step), "replayed": None}
    if on_gpu:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # a capture wants its warm-up on another stream
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        told["replayed"] = rate(graph.replay)
    return told


def _ways(trained: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What compiling and recording do for each training that was done without and with them."""
    plain = {(found["workload"], found["network"]): found for found in trained if found["contestant"] == "GPU bf16"}
    others = [found for found in trained if found["contestant"] in ("GPU bf16 compiled", "GPU bf16 recorded")]
    pairs = ((plain.get((other["workload"], other["network"])), other) for other in others)
    return [break_even(found, other) for found, other in pairs if found]


def break_even(plain: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """From how many images, epochs times images, `other` takes less time in all; none where it never does."""
    once, others_once = (told["first_epoch_seconds"] - told["epoch_seconds"] for told in (plain, other))
    saved = (plain["epoch_seconds"] - other["epoch_seconds"]) / plain["images"]
    return {
        "workload": plain["workload"],
        "network": plain["network"],
        "way": other["contestant"],
        "extra_seconds": round(others_once - once, 1),
        "faster": round(plain["epoch_seconds"] / other["epoch_seconds"], 2),
        "break_even_images": max(0, round((others_once - once) / saved)) if saved > 0 else None,
    }


def _print_tables(trained: list[dict[str, Any]], bare: list[dict[str, Any]], ways: list[dict[str, Any]]) -> None:
    columns = ("images/s", "1st epoch", "epoch s", "before", "total s", "val acc", "ONNX", "busy")
    print(f"\n{'training':50} {'epochs':>6} " + " ".join(f"{column:>9}" for column in columns))
    for found in trained:
        title = f"{found['workload']}, {found['network']}, {found['contestant']}"
        busy = "" if found["gpu_busy"] is None else f"{found['gpu_busy']:9.0%}"
        print(
            f"{title:50} {found['epochs']:6} {found['images_per_second']:9,} {found['first_epoch_seconds']:9.2f} "
            f"{found['epoch_seconds']:9.3f} {found['before_seconds']:9.2f} {found['total_seconds']:9.1f} "
            f"{found['val_accuracy']:9.4f} {found['onnx_difference']:9.1e} {busy}"
        )
    print(f"\n{'bare steps, images/s':50} {'batch':>6} {'loop':>9} {'replayed':>9}")
    for found in bare:
        for told in found["steps"]:
            replayed = "" if told["replayed"] is None else f"{told['replayed']:9,}"
            title = f"{found['network']}, {told['contestant']}"
            print(f"{title:50} {told['batch']:6} {told['loop']:9,} {replayed}")
    for told in ways:
        pays = told["break_even_images"]
        says = "never pays" if pays is None else f"pays from {pays:,} images"
        print(
            f"\n{told['network']}, {told['way']}: {told['extra_seconds']} s more in the first epoch, "
            f"{told['faster']} times as fast then: {says}"
        )


if __name__ == "__main__":
    sys.exit(main())

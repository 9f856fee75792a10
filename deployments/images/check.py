"""What a training image is asked before it counts: `python -m deployments.images.check MODULE`, inside a container.

It imports what a flow run of each stage needs and, where torch is there, trains a small network for one step, exports
it and lets ONNX Runtime answer. The module itself is imported last. The exit code is 0 if all of that works.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STAGES = ("data", "training", "evaluation", "registration", "publication")
LIBRARIES = ("prefect.engine", "prefect.flow_engine", "mlflow.pyfunc", "blocks.tracked_run", "volvox.evaluation.plots")


def main(module: str) -> None:
    """Check, and print how long each part took."""
    _told("the stages", lambda: [importlib.import_module(f"flows.{stage}") for stage in STAGES])
    _told("the libraries of the stages", lambda: [importlib.import_module(name) for name in LIBRARIES])
    _told("the places that a job writes to", _write)
    if importlib.util.find_spec("torch"):
        _told("a step of training and an export", _train)
    if importlib.util.find_spec("pytorch_lightning"):
        _told("Lightning", lambda: importlib.import_module("pytorch_lightning"))
    _told(f"the module {module}", lambda: _describe(module))


def _told(what: str, check: Callable[[], object]) -> None:
    began = time.monotonic()
    check()
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def _write() -> None:
    for name in ("HOME", "VOLVOX_HOME", "PREFECT_HOME", "MPLCONFIGDIR"):
        folder = Path(os.environ[name])
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _train() -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 6, 2))
    images, labels = torch.rand(8, 3, 8, 8), torch.arange(8) % 2
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimiser.step()
    if not (importlib.util.find_spec("onnxscript") and importlib.util.find_spec("onnxruntime")):
        return
    import numpy as np
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "network.onnx")
        torch.onnx.export(network.eval(), (images,), place, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(str(place))
        (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(np.asarray(answer), network(images).detach().numpy(), rtol=1e-3, atol=1e-4)


def _describe(module: str) -> None:
    from volvox.modules import calling, discovery
    from volvox.settings import Home

    asyncio.run(calling.describe(discovery.find(module), Home.current()))


if __name__ == "__main__":
    main(sys.argv[1])

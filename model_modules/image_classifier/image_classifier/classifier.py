"""A trained version that answers: ONNX Runtime, NumPy and Pillow; no torch."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from webargs import ValidationError

from image_classifier.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np

BATCH = 64
_MOST_THREADS = 4


class Classifier:
    """Weights of one version, loaded.

    Args:
        folder: Holds `model.json` and `model.onnx`.

    Attributes:
        classes: Names in the order of the network's outputs.
        preprocessing: What the network takes.
        labels_info: A remark on each class, or empty.
        aphia_ids: WoRMS identifier of each class, or empty.

    Raises:
        ValidationError: If the folder holds no version of this module, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        try:
            told = json.loads((folder / "model.json").read_text())
            self.classes: list[str] = list(told["classes"])
            self.preprocessing = Preprocessing.from_json(told["preprocessing"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _no_weights(folder, f"model.json cannot be read ({type(error).__name__})") from error
        self.labels_info: list[str] = list(told.get("labels_info") or [])
        self.aphia_ids: list[str] = list(told.get("aphia_ids") or [])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several workers share a machine
        options.log_severity_level = 3
        there = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in there]
        try:
            self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=providers)
        except Exception as error:  # ONNX Runtime has an exception class for each kind of damage, none of them public
            raise _no_weights(folder, f"model.onnx cannot be loaded ({error})") from error

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities, shape (N, classes), float32, of pixels, shape (N, channels, size, size), uint8."""
        import numpy as np

        logits = np.asarray(self._session.run(None, {"image": pixels})[0], np.float32)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def probabilities(self, squares: Iterable[np.ndarray]) -> np.ndarray:
        """Probabilities, shape (N, classes), float32, of any number of squares; at most `BATCH` of them in memory."""
        import numpy as np

        waiting = iter(squares)
        found = [self.run(np.stack(chunk)) for chunk in iter(lambda: list(islice(waiting, BATCH)), [])]
        return np.concatenate(found) if found else np.empty((0, len(self.classes)), np.float32)

    def decoded(self, paths: list[Path]) -> Generator[np.ndarray]:
        """The squares of many files in order, decoded by several threads a batch ahead."""
        with ThreadPoolExecutor(threads()) as pool:
            ahead = [pool.submit(self.preprocessing.decode, path) for path in paths[:BATCH]]
            for at, _ in enumerate(paths):
                if at + BATCH < len(paths):
                    ahead.append(pool.submit(self.preprocessing.decode, paths[at + BATCH]))
                yield ahead.pop(0).result()


def load(folder: Path) -> Classifier:
    """The version in `folder`, loaded once for as long as its `model.json` stays the same."""
    folder = folder.absolute()
    try:
        stamp = (folder / "model.json").stat().st_mtime_ns
    except OSError as error:
        raise _no_weights(folder, "there is no model.json") from error
    return _loaded(folder, stamp)


def threads() -> int:
    """Processors to use for one answer: what this process may use, four at most, or `VOLVOX_THREADS`."""
    if (wanted := os.environ.get("VOLVOX_THREADS", "")).isdecimal():
        return max(1, int(wanted))
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, there)


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path, stamp: int) -> Classifier:  # noqa: ARG001 - the stamp makes a rewritten version a new one
    return Classifier(folder)


def _no_weights(folder: Path, reason: str) -> ValidationError:
    return ValidationError({"weights": [f"No model in {folder}: {reason}; name the folder that train() wrote."]})

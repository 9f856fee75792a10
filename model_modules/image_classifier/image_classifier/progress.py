"""How far a call is, as lines of JSON that another process may read while it runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


class Progress:
    """Appends to `progress.jsonl`; each line is whole and flushed.

    Args:
        folder: The output place.
    """

    def __init__(self, folder: Path) -> None:
        self._stream = (folder / "progress.jsonl").open("a", buffering=1)

    def tell(self, done: float, total: float, unit: str, images_per_second: float, **more: Any) -> None:
        """One line. `more`: `epoch`, `step`, `metrics`; a metric that is no number is left out, as JSON has none."""
        metrics = {name: value for name, value in more.pop("metrics", {}).items() if math.isfinite(value)}
        line = {"done": round(done, 3), "total": total, "unit": unit, "images_per_second": round(images_per_second, 1)}
        self._stream.write(json.dumps({**line, "metrics": metrics, **more}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """No more lines will come."""
        self._stream.close()

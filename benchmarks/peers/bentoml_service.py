"""A BentoML service: `bentoml serve bentoml_service:Digits`.

`PEER_SETTING`: `workers`, `batch` (largest; 1: no batching), `latency` (`max_latency_ms` of batching), and `how`
without batching: `async` (in the event loop) or `sync` (BentoML's thread). The picture comes as base64 in JSON, or as
a multipart upload where `form` is true.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import bentoml
import digits_model

SETTING = digits_model.setting()
BATCH, FORM = int(SETTING.get("batch", 1)), bool(SETTING.get("form"))
SERVICE: dict[str, Any] = {
    "workers": int(SETTING.get("workers", 1)),
    "threads": 1,
    "traffic": {"timeout": 60},
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": False},
}


def _read(picture: Any) -> Any:
    return digits_model.decoded(picture if FORM else base64.b64decode(picture))


if BATCH > 1:
    batched = bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=int(SETTING.get("latency", 60000)))

    def _together(pictures: list[Any]) -> list[dict[str, Any]]:
        return digits_model.answered([_read(picture) for picture in pictures])

    if FORM:

        @bentoml.service(**SERVICE)
        class Digits:
            """Batches of uploads."""

            @batched
            def predict(self, image: list[Path]) -> list[dict[str, Any]]:
                """Answers in the order of the pictures."""
                return _together(image)

    else:

        @bentoml.service(**SERVICE)
        class Digits:
            """Batches of texts."""

            @batched
            def predict(self, image: list[str]) -> list[dict[str, Any]]:
                """Answers in the order of the pictures."""
                return _together(image)

elif SETTING.get("how") == "async":

    @bentoml.service(**SERVICE)
    class Digits:
        """One picture at a time, in the event loop."""

        @bentoml.api
        async def predict(self, image: str) -> dict[str, Any]:
            """The answer."""
            return digits_model.answered([_read(image)])[0]

else:

    @bentoml.service(**SERVICE)
    class Digits:
        """One picture at a time, in BentoML's thread."""

        @bentoml.api
        def predict(self, image: str) -> dict[str, Any]:
            """The answer."""
            return digits_model.answered([_read(image)])[0]

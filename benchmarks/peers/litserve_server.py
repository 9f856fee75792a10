"""A LitServe server: `python litserve_server.py PORT`.

`PEER_SETTING`: `batch`, `timeout` (seconds a batch waits), `workers`, `api_servers`, `fast_queue`, and `form` (true:
the picture comes as multipart upload, false: as base64 in JSON).

LitServe reads annotations as they stand, so this file does not make texts of them.
"""

import base64
import sys
from typing import Any

import digits_model
import litserve
from fastapi import Request

SETTING = digits_model.setting()
BATCH = int(SETTING.get("batch", 1))


class Digits(litserve.LitAPI):
    """The image classifier as LitServe wants it."""

    def setup(self, device: str) -> None:
        """The model is loaded by the import."""

    def decode_request(self, request: Request) -> Any:
        """The pixels of the picture."""
        told: Any = request
        picture = told["image"].file.read() if SETTING.get("form") else base64.b64decode(told["image"])
        return digits_model.decoded(picture)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """The model stacks them itself."""
        return list(inputs)

    def predict(self, x: Any) -> Any:
        """Answers of a batch, or of one picture where there is no batching."""
        return digits_model.answered(x if BATCH > 1 else [x])

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """They are apart already."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """One answer."""
        return output if BATCH > 1 else output[0]


def main(port: int) -> None:
    """Serve until a signal."""
    api = Digits(max_batch_size=BATCH, batch_timeout=float(SETTING.get("timeout", 0.0)))
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=int(SETTING.get("workers", 1)),
        fast_queue=bool(SETTING.get("fast_queue")),
    )  # fmt: skip
    server.run(
        host="127.0.0.1", port=port, log_level="error", generate_client_file=False, access_log=False,
        num_api_servers=int(SETTING.get("api_servers", 1)),
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))

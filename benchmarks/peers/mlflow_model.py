"""The pyfunc flavour that MLflow's model server loads; `python mlflow_model.py FOLDER` writes the model.

A picture comes as base64 in `{"inputs": [...]}`, which is what the server takes.
"""

from __future__ import annotations

import base64
import os
import sys
from typing import Any


class Digits:
    """Answers as MLflow asks for them."""

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:  # noqa: ARG002
        """One answer for each picture."""
        import digits_model

        return digits_model.answered([digits_model.decoded(base64.b64decode(picture)) for picture in model_input])


def _load_pyfunc(data_path: str) -> Digits:  # noqa: ARG001 - the weights are those of every peer
    import digits_model

    assert digits_model.MODEL.classes, "read before the first request"
    return Digits()


def main(folder: str) -> None:
    """Write the model."""
    import mlflow

    mlflow.pyfunc.save_model(
        folder, loader_module="mlflow_model", data_path=os.environ["VOLVOX_WEIGHTS"], pip_requirements=["mlflow"]
    )


if __name__ == "__main__":
    main(sys.argv[1])

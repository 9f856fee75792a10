"""What several runtimes of AWS have of one function: its role, queue, notifications, images and scratch folder.

They are named after the function. So a runtime that lets it go leaves them where another one has it meanwhile.
"""

from __future__ import annotations

import json
from pathlib import Path

from volvox.functions.definition import Function
from volvox.runtimes.kept import DEPLOYED

FOLDERS = ("lambda", "batch", "ecs", "lambda-batch/lambda", "lambda-batch/batch")


def elsewhere(folder: Path, name: str) -> Function | None:
    """The function `name` as another runtime of AWS has it; None: only the one of `folder` has, if any."""
    root = folder.parent.parent if folder.parent.name == "lambda-batch" else folder.parent
    for one in FOLDERS:
        file = root / one / name / DEPLOYED
        if root / one != folder and file.is_file():
            try:
                return Function.model_validate(json.loads(file.read_bytes())["function"])
            except (OSError, ValueError, KeyError, TypeError):  # it is deployed again, and what is missing made
                continue
    return None

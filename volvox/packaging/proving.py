"""An image counts when a container of it became healthy and answered a held-out image as the evaluation said."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox.cancelling import Cancelled
from volvox.errors import VolvoxError
from volvox.packaging import inventory
from volvox.packaging.context import PORT
from volvox.packaging.engine import Engine
from volvox.serving.smoke import classifications, fault

_READY_SECONDS = 90.0
_ANSWER_SECONDS = 60.0
_TOLERANCE = 0.01  # of a probability: other processors round other sums


@dataclass(frozen=True)
class Question:
    """A held-out image, and what is known of the right answer.

    Attributes:
        file: The image.
        model: Name of the model in the server's paths.
        argument: The argument of `predict` that takes the file; empty if none does, and then nothing is asked.
        classes: The model's class names; empty if unknown.
        expected: The class that the evaluation found for this image and its probability, or None.
    """

    file: Path
    model: str
    argument: str
    classes: tuple[str, ...] = ()
    expected: tuple[str, float] | None = None


def prove(engine: Engine, image: str, question: Question, cancelled: threading.Event) -> dict[str, Any]:
    """Run `image`, wait until its own health check passes, ask `question`; return the inventory of what is in it.

    Raises:
        Cancelled: If `cancelled` is set before it is healthy.
        VolvoxError: If it does not become healthy, refuses the question, or answers something else.
    """
    with engine.running(image, PORT) as (container, port):
        _await_health(engine, container, cancelled)
        if question.argument and (wrong := wrong_with(_ask(engine, container, port, question), question)):
            raise VolvoxError(f"the image answers {question.file.name} wrongly: {wrong}; it gets no name")
        return _inventory(engine, container)


def wrong_with(answer: Any, question: Question) -> str:
    """What is wrong with an answer of `predict`, in words; empty if nothing is."""
    if wrong := fault(answer, question.classes):
        return wrong
    found = classifications(answer)
    if question.expected is None or not found:
        return ""
    (labels, probabilities), (label, probability) = found[0], question.expected
    if label not in labels:
        return f"the evaluation said {label} ({probability:.3f}), it says {labels[0]} ({probabilities[0]:.3f})"
    given = probabilities[labels.index(label)]
    if not math.isclose(given, probability, abs_tol=_TOLERANCE):
        return f"the evaluation gave {label} {probability:.3f}, it gives {given:.3f}"
    return ""


def _await_health(engine: Engine, container: str, cancelled: threading.Event) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        state = engine.state(container)
        if state.get("Health", {}).get("Status") == "healthy":
            return
        if not state["Running"] or time.monotonic() > deadline:
            said = engine.logs(container)[-1000:] or "nothing"
            raise VolvoxError(f"the image's server {_end(state)}; it said: {said}")
        if cancelled.wait(0.1):
            raise Cancelled


def _end(state: dict[str, Any]) -> str:
    if state["Running"]:
        return f"did not become healthy in {_READY_SECONDS:.0f} s"
    return "ended for lack of memory" if state.get("OOMKilled") else f"ended with exit code {state['ExitCode']}"


def _ask(engine: Engine, container: str, port: int, question: Question) -> Any:
    import httpx

    url = f"http://127.0.0.1:{port}/v2/models/{question.model}/predict/"
    try:
        with question.file.open("rb") as stream:
            files = {question.argument: (question.file.name, stream)}
            answer = httpx.post(url, files=files, timeout=_ANSWER_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        said = engine.logs(container)[-1000:] or "nothing"
        raise VolvoxError(f"the image's server did not answer a held-out image ({error}); it said: {said}") from error
    if not answer.is_success:
        raise VolvoxError(f"the image's server answered {answer.status_code} to a held-out image: {answer.text[:500]}")
    return answer.json()


def _inventory(engine: Engine, container: str) -> dict[str, Any]:
    code = Path(inventory.__file__).read_text()
    status, said = engine.execute(container, ["/opt/volvox/bin/python", "-c", code])
    if status:
        raise VolvoxError(f"the image's interpreter cannot list what is installed (exit code {status})")
    return json.loads(said)

"""SCAR's form of a definition: the items of `functions.aws`."""

from __future__ import annotations

from typing import Any

from volvox.functions.building import built, their_places
from volvox.functions.definition import Function
from volvox.functions.document import Value
from volvox.functions.entries import Entries, Reading
from volvox.functions.providers import Providers
from volvox.functions.scar_keys import BATCH, LAMBDA, SIBLINGS
from volvox.functions.values import choice, matching, said, text, truth, whole

# A job of AWS Batch has no limit of its own; this is what Function must state.
UNLIMITED_SECONDS = 86_400.0
MODES = ("lambda", "lambda-batch", "batch")

_NAME = matching(r"[A-Za-z0-9_-]{1,64}", "AWS allows 1 to 64 letters, digits, '-' and '_'")


def read(item: Value, providers: Providers, reading: Reading) -> Function | None:
    """The function of one item; None if there are mistakes, which are remembered.

    Args:
        item: The map with `lambda` and what belongs to it.
        providers: What the file says of storage providers.
        reading: Takes mistakes, warnings and what is missing.
    """
    before = len(reading.mistakes)
    entries = Entries(item, reading)
    if entries.get("lambda") is None:
        reading.mistakes.append(
            str(item.wrong("has no key 'lambda', which says name, image and script of the function"))
        )
        return None
    inner, batch = entries.inner("lambda"), entries.inner("batch")
    container = inner.inner("container")
    name = inner.need("name", _NAME, "")
    mode = inner.take("execution_mode", choice(*MODES), "")
    told: dict[str, Any] = {
        "name": name,
        "origin": "scar",
        "description": inner.take("description", text, ""),
        "runtime": mode or "auto",
        "image": _image(container, name, reading),
        "environment": container.inner("environment").inner("variables").environment(),
    }
    if (script := inner.get("init_script")) is not None:
        told["script"] = reading.tried(lambda value: reading.script(value, name), script, "")
    told["resources"], told["timeout_seconds"] = _resources(inner, batch, mode)
    places, elsewhere = their_places(
        inner, "", providers, triggers=("s3.",),
        otherwise="is no place of s3: on AWS nothing would tell the function of its files, here they are seen",
    )  # fmt: skip
    told |= places
    told["settings"] = _settings(entries, inner, container, batch, elsewhere)
    told["providers"], described = providers.attached({place.provider for place in (*told["inputs"], *told["outputs"])})
    if described:
        told["settings"]["storage_providers"] = described
    return built(told, inner) if len(reading.mistakes) == before else None


def _image(container: Entries, name: str, reading: Reading) -> str:
    image, archive = container.take("image", said, ""), container.get("image_file")
    if archive is None:
        if not image and container.value.get("image") is None:
            reading.mistakes.append(
                f"{container.value.where}: lambda.container.image is missing; name the container image"
            )
        return image
    if image:
        reading.warn(archive, "is left out: an image is named too")
        return image
    path = reading.beside(reading.tried(said, archive, "?"))
    if not path.is_file():
        reading.miss(archive, name, "image file", path)
    return f"docker-archive:{path}"


def _resources(inner: Entries, batch: Entries, mode: str) -> tuple[dict[str, Any], float]:
    """What a job may use and for how long: of the container that the mode has it run in."""
    found: dict[str, Any] = {}
    if mode == "batch":
        found["memory_mb"] = batch.take("memory", whole(4, 100_000_000, "MiB"), None)
        found["cpu"] = batch.take("vcpus", whole(1, 10_000), None)
        seconds = UNLIMITED_SECONDS
    else:
        found["memory_mb"] = inner.take("memory", whole(128, 10240, "MB"), None)
        seconds = float(inner.take("timeout", whole(1, 900, "seconds"), 300))
    if mode in ("batch", "lambda-batch"):
        found["gpus"] = int(batch.take("enable_gpu", truth, False))
    return found, seconds


def _settings(
    entries: Entries, inner: Entries, container: Entries, batch: Entries, elsewhere: dict[str, Any]
) -> dict[str, Any]:
    found = entries.kept(SIBLINGS)
    found["batch"] = batch.kept(BATCH)
    kept = {**inner.kept(LAMBDA), **elsewhere}
    kept["container"] = container.kept(_CONTAINER)
    found["lambda"] = {name: value for name, value in kept.items() if value != {}}
    return {name: value for name, value in found.items() if value != {}}


_CONTAINER: Any = LAMBDA["container"]

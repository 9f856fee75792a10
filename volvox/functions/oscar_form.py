"""OSCAR's form of a definition: the items of `functions.oscar`, each a map cluster -> service."""

from __future__ import annotations

from typing import Any

from volvox.functions import values
from volvox.functions.building import built, their_places
from volvox.functions.definition import Function
from volvox.functions.document import Value
from volvox.functions.entries import Entries, Reading
from volvox.functions.oscar_keys import FEDERATION, READ_ONLY, SERVICE
from volvox.functions.providers import Providers
from volvox.functions.scar_form import UNLIMITED_SECONDS
from volvox.functions.values import matching, said, text, truth, whole

MOST_INSTANCES = 1000  # what OSCAR means by 0: as many as fit
_NAME = matching(
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,37}[A-Za-z0-9])?",
    "OSCAR allows 1 to 39 letters, digits, '-', '.' and '_', the first and the last a letter or digit",
)


def read(cluster: str, value: Value, providers: Providers, reading: Reading) -> Function | None:
    """The function of one service; None if there are mistakes, which are remembered.

    Args:
        cluster: The id under which it stands.
        value: The service, as the body of OSCAR's API has it.
        providers: What the file says of storage providers and clusters.
        reading: Takes mistakes, warnings and what is missing.
    """
    before = len(reading.mistakes)
    entries = Entries(value, reading)
    name = entries.need("name", _NAME, "")
    cluster = entries.take("cluster_id", text, "") or cluster
    providers = providers.copy()  # what stands in the service is for it alone
    providers.read(entries.get("storage_providers"), entries.get("clusters"))
    providers.take(f"clusters.{cluster}", entries)
    told: dict[str, Any] = {
        "name": name,
        "origin": "oscar",
        "image": entries.need("image", said, ""),
        "environment": _environment(entries.inner("environment"), reading),
        "resources": {
            "memory_mb": entries.take("memory", values.memory_mb, None),
            "cpu": entries.take("cpu", values.cores, None),
            "gpus": int(entries.take("enable_gpu", truth, False)),
            "storage_mb": entries.take("ephemeral_storage_request", _memory_if_any, None),
        },
        "scaling": _scaling(entries, reading),
        "timeout_seconds": UNLIMITED_SECONDS,
        "fetches": not entries.take("file_stage_in", truth, False),
    }
    told["runtime"] = "oscar" if providers.described.get(f"clusters.{cluster}", {}).get("endpoint") else "auto"
    if (script := entries.get("script")) is not None:
        told["script"] = reading.tried(lambda value: reading.script(value, name), script, "")
    places, elsewhere = their_places(
        entries, name, providers, triggers=("minio.", "webdav.", "rucio."),
        otherwise="is no place of minio, webdav or rucio: an OSCAR cluster would refuse it, here it works",
    )  # fmt: skip
    told |= places
    told["settings"] = {**_settings(entries, cluster, reading), **elsewhere}
    used = {place.provider for place in (*told["inputs"], *told["outputs"])} | {f"clusters.{cluster}"}
    told["providers"], described = providers.attached(used)
    if described:
        told["settings"]["storage_providers"] = described
    return built(told, entries) if len(reading.mistakes) == before else None


def _memory_if_any(value: Value) -> int | None:
    return values.memory_mb(value) if value.text.strip() else None


def _environment(entries: Entries, reading: Reading) -> dict[str, str]:
    plain = entries.inner("variables").environment()
    secret = entries.inner("secrets").environment(secrets=True)
    for name, value in entries.rest():
        reading.warn(value, f"is not known{values.near(name, ('Variables', 'Secrets'))}; it does nothing")
    return {**plain, **secret}


def _scaling(entries: Entries, reading: Reading) -> dict[str, Any]:
    if entries.get("synchronous") is None:
        return {}
    inner = entries.inner("synchronous")
    least = inner.take("min_scale", whole(0, MOST_INSTANCES), 0)
    stated = inner.take("max_scale", whole(0, MOST_INSTANCES), 0)
    most = stated or MOST_INSTANCES
    for name, value in inner.rest():
        reading.warn(value, f"is not known{values.near(name, ('min_scale', 'max_scale'))}; it does nothing")
    if least > most:
        told = (inner.value.get("min_scale") or inner.value).wrong(
            f"is {least}, and max_scale {most}; it is never larger"
        )
        reading.mistakes.append(str(told))
    if not least and not stated:  # what a cluster answers where nobody stated anything
        return {}
    return {"min_scale": least, "max_scale": most}


def _settings(entries: Entries, cluster: str, reading: Reading) -> dict[str, Any]:
    old = {key: entries.get(key) for key in ("replicas", "delegation", "rescheduler_threshold")}
    for key in READ_ONLY:
        if (value := entries.get(key)) is not None:
            reading.warn(value, "is what a cluster answers, and no part of a definition; it is left out")
    found = {"cluster_id": cluster, **entries.kept(SERVICE)}
    lacking = [key for key in ("type", "storage_uri") if key not in found.get("kserve", {"type", "storage_uri"})]
    if lacking:
        spot = entries.value.get("kserve") or entries.value
        reading.mistakes.append(str(spot.wrong(f"has no {lacking[0]}; KServe needs type and storage_uri")))
    members = {"replicas": "members"}
    stood = {members.get(key, key): value for key, value in old.items() if value is not None}
    if stood:
        reading.warn(
            next(iter(stood.values())), "is an old word for what stands under federation now; it is taken for that"
        )
        first = next(iter(stood.values()))
        gathered = Value(first.file, first.line, first.key.rpartition(".")[0], "map", entries=tuple(stood.items()))
        found["federation"] = {**Entries(gathered, reading).kept(FEDERATION), **found.get("federation", {})}
    return found

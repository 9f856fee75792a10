"""The checks of a Docker engine: it answers, is large enough, has the image, and a container finds the way back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from deployments.checks.check import Check, Target, probed
from volvox.pools.definition import Offers

_LABEL = "volvox.check"
_ANSWERS_SECONDS = 15
_PROBE_SECONDS = 60
_PULL_SECONDS = 600


async def checks(target: Target, *, with_probe: bool) -> AsyncIterator[Check]:
    """See `deployments.checks.check.EngineChecks`."""
    from volvox.packaging.engine import Engine

    engine = Engine()
    if why := await asyncio.to_thread(engine.why_not):
        yield Check("engine", False, why, "start it, or set DOCKER_HOST to one that runs")
        return
    yield Check("engine", True, f"{engine.host} answers")
    client = await asyncio.to_thread(_client, engine.host)
    try:
        room = capacity(await asyncio.to_thread(client.api.info), target.pool.offers)
        told = (*room, await asyncio.to_thread(_image, client, target))
        for check in told:
            yield check
        if with_probe and all(check.ok is not False for check in told):
            for check in await asyncio.to_thread(_probe, client, target):
                yield check
    finally:
        client.close()


def capacity(info: dict[str, Any], offers: Offers) -> list[Check]:
    """Whether an engine has what the pool's file says that one job can have.

    Args:
        info: What `docker info` gives.
        offers: What the file says.
    """
    found: list[Check] = []
    memory_mb, cores = info.get("MemTotal", 0) // 2**20, info.get("NCPU", 0)
    short = [
        f"{offers.memory_mb} MB of {memory_mb}" if offers.memory_mb and offers.memory_mb > memory_mb else "",
        f"{offers.cpu:g} CPU of {cores}" if offers.cpu and offers.cpu > cores else "",
    ]
    if short := list(filter(None, short)):
        found.append(
            Check("capacity", False, f"the file offers {' and '.join(short)}", "offer no more than the engine has")
        )
    else:
        found.append(Check("capacity", True, f"the engine has {cores} CPU and {memory_mb} MB"))
    if offers.gpus:
        devices = [one for one in info.get("DiscoveredDevices") or [] if "nvidia" in str(one).lower()]
        if "nvidia" in (info.get("Runtimes") or {}) or devices:
            found.append(Check("gpu", True, "the engine has NVIDIA's runtime"))
        else:
            found.append(
                Check("gpu", False, f"the file offers {offers.gpus}, and the engine has no NVIDIA runtime",
                      "install NVIDIA's container toolkit on the engine, or offer gpus: 0")
            )  # fmt: skip
    return found


def _client(host: str) -> Any:
    import docker
    import docker.utils

    tls = docker.utils.kwargs_from_env().get("tls") or False
    return docker.DockerClient(base_url=host or None, version="auto", timeout=_ANSWERS_SECONDS, tls=tls)


def _image(client: Any, target: Target) -> Check:
    """The image on the engine, or what its registry says when the engine asks it."""
    import docker.errors
    import requests

    image = target.configuration.image
    always = target.configuration.image_pull_policy == "Always"
    try:
        found = client.images.get(image)
        if not always:
            return Check("image", True, f"the engine has {image} ({found.attrs.get('Size', 0) / 1e6:.0f} MB)")
    except docker.errors.ImageNotFound:
        if target.configuration.image_pull_policy == "Never":
            return Check("image", False, f"the engine has no {image}, and may not pull it", "`make images`")
    except docker.errors.APIError as error:
        return Check("image", False, f"{image!r} is no image: {error.explanation}", "correct the pool's `image`")
    credentials = getattr(target.configuration, "registry_credentials", None)
    try:
        login = None
        if credentials is not None:
            login = {"username": credentials.username, "password": credentials.password.get_secret_value()}
        client.api.inspect_distribution(image, auth_config=login)
    except docker.errors.APIError as error:
        return refused(image, error.explanation or str(error))
    except (docker.errors.DockerException, requests.RequestException) as error:
        return Check("image", None, f"the engine did not say whether {image} can be pulled: {error}", "try again")
    return Check("image", True, f"its registry has {image}, which is pulled for the first job")


def refused(image: str, said: str) -> Check:
    """What an engine's refusal to ask or pull from a registry means."""
    low = said.lower()
    if "does not exist" in low or "not found" in low or "manifest unknown" in low or "name unknown" in low:
        return Check(
            "image", False, f"neither the engine nor its registry has {image}: {said}",
            "`make images`, or correct the pool's `image`",
        )  # fmt: skip
    if "unauthorized" in low or "denied" in low or "authentication" in low or "no basic auth" in low:
        return Check(
            "image", False, f"the registry refuses the credentials for {image}: {said}",
            "`docker login` on the engine's machine, or the job variable registry_credentials with a Docker registry "
            "block",
        )  # fmt: skip
    return Check(
        "image", False, f"the engine has no {image}, and its registry cannot be asked: {said}",
        "`make images`, or make the registry reachable for the engine",
    )  # fmt: skip


def _probe(client: Any, target: Target) -> list[Check]:
    """Run the probe as Prefect's worker would run a job; the container is removed whatever happens."""
    import docker.errors
    import requests

    worker = target.worker(work_pool_name=target.pool.name, test_mode=True)
    target.configuration.labels = {_LABEL: target.pool.name}
    target.configuration.auto_remove = False
    settings = worker._build_container_settings(client, target.configuration)
    try:
        with _patient(client, _PULL_SECONDS), contextlib.suppress(docker.errors.ImageNotFound):
            container = client.containers.create(**settings)
            return _ran(container)
        with _patient(client, _PULL_SECONDS):
            client.images.pull(settings["image"])
        return _ran(client.containers.create(**settings))
    except docker.errors.APIError as error:
        said = error.explanation or str(error)
        if "pull" in said or "manifest" in said:
            return [refused(settings["image"], said)]
        return [Check("probe", False, f"the engine does not start a job: {said}", _mend(said))]
    except (docker.errors.DockerException, requests.RequestException) as error:
        return [Check("probe", False, f"the engine did not answer: {error}", "start it again")]


def _ran(container: Any) -> list[Check]:
    import requests

    try:
        container.start()
        try:
            code = container.wait(timeout=_PROBE_SECONDS)["StatusCode"]
        except (requests.Timeout, requests.ConnectionError):
            code = None
        output = container.logs(tail=50).decode(errors="replace")
        container.reload()
        state = container.attrs["State"]
        ended = "the container ran out of memory" if state.get("OOMKilled") else state.get("Error", "")
        return probed(output, code, ended)
    finally:
        container.remove(force=True, v=True)


@contextlib.contextmanager
def _patient(client: Any, seconds: int) -> Iterator[None]:
    before, client.api.timeout = client.api.timeout, seconds
    try:
        yield
    finally:
        client.api.timeout = before


def _mend(said: str) -> str:
    low = said.lower()
    if "device driver" in low or "gpu" in low:
        return "install NVIDIA's container toolkit on the engine, or offer gpus: 0"
    if "network" in low:
        return "correct networks or network_mode in job_variables"
    if "mount" in low or "volume" in low or "bind" in low:
        return "correct volumes in the pool's file: the source is a path of the engine's machine"
    return "correct job_variables in the pool's file"

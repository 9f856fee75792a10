"""What a work pool needs before a run is sent to it, found out one thing after the other.

Each kind of engine has its file; this one knows their order and what all pools have in common.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from deployments.checks.check import Check, EngineChecks, Target
from volvox.errors import InvalidInput, VolvoxError
from volvox.pools.definition import PoolDefinition
from volvox.pools.files import pool_paths, read_pool
from volvox.settings import Home

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import PrefectClient

__all__ = ["Check", "check_pool"]

MODULE = "image_classifier"

_NOWHERE = "http://127.0.0.1:9/api"  # Prefect's client starts a server of its own where none is named


async def check_pool(
    name: str, home: Home, tell: Callable[[Check], None], *, module: str = MODULE, probe: bool = True
) -> None:
    """Find out what is missing of the pool `name`, telling each check as it is made.

    Args:
        name: The pool.
        home: Whose files and stack.
        tell: Gets every check, in order.
        module: Whose newest training image it is, where the pool's file names none.
        probe: Whether to run one job on the engine that tries the way back; it is removed again.

    Raises:
        NotFound: If there is no such pool.
    """
    paths = pool_paths(home)
    if name not in paths:
        from volvox.pools.files import known_pool

        known_pool(name, dict.fromkeys(paths))  # pyright: ignore[reportArgumentType] - it raises, which is all it is for
    async for check in _checks(name, paths[name], module, probe):
        tell(check)


async def _checks(name: str, path: Path, module: str, probe: bool) -> AsyncIterator[Check]:
    try:
        pool = read_pool(path)
    except InvalidInput as error:
        yield Check("file", False, str(error), f"correct {path}")
        return
    yield Check("file", True, f"{path} is valid")
    if pool.enabled:
        yield Check("enabled", True, "this installation uses it")
    else:
        yield Check("enabled", False, "it is off", f"`volvox pools enable {name}`")
    template, check = _template(pool)
    yield check
    async for one in _server(pool):
        yield one
    if template is None:
        return
    if pool.starts_containers and not pool.image:
        found = await asyncio.to_thread(_newest, pool, module)
        if isinstance(found, Check):
            yield found
            return
        pool = pool.model_copy(update={"image": found})
    target = await _target(pool, template)
    if isinstance(target, Check):
        yield target
        return
    async for one in _engine(pool.type)(target, with_probe=probe):
        yield one


def _template(pool: PoolDefinition) -> tuple[dict[str, Any] | None, Check]:
    """The pool's job template, and whether its variables are such as the worker type knows."""
    from deployments.checks.variables import faults
    from deployments.job_environment import container_user, job_environment, with_store
    from deployments.job_templates import job_template

    mounted = with_store(pool)
    try:
        environment = job_environment(mounted) if pool.starts_containers else {}
        template = job_template(mounted, environment, user=container_user(mounted))
    except InvalidInput as error:
        return None, Check("job template", False, str(error), "correct job_variables in the pool's file")
    except ImportError as error:
        return None, Check(
            "job template", False, f"Prefect's {pool.type} worker is not installed ({error})",
            "pip install 'volvox[cycle]'",
        )  # fmt: skip
    if wrong := faults(pool, template):
        return None, Check("job template", False, "; ".join(wrong), "correct job_variables in the pool's file")
    return template, Check("job template", True, f"the {pool.type} worker knows every variable of it")


async def _server(pool: PoolDefinition) -> AsyncIterator[Check]:
    from volvox.pools.states import states_at

    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        yield Check("prefect", False, "no Prefect server runs here", "`volvox up`, or set PREFECT_API_URL")
        return
    try:
        state = (await states_at(url, [pool.name]))[pool.name]
    except VolvoxError as error:
        yield Check("prefect", False, str(error), "`volvox up`, or correct PREFECT_API_URL")
        return
    if not state.exists:
        yield Check("work pool", False, f"{url} does not know a work pool {pool.name!r}", "`volvox apply`")
        return
    yield Check("work pool", True, f"{url} knows it")
    if state.paused:
        yield Check("worker", False, "the work pool is paused", f"`prefect work-pool resume {pool.name}`")
    elif state.online:
        yield Check("worker", True, "a worker is online")
    else:
        start = f"`volvox up`, or where the engine is: prefect worker start --pool {pool.name} --type {pool.type}"
        yield Check("worker", False, "no worker of it is online", start)


def _newest(pool: PoolDefinition, module: str) -> str | Check:
    """The training image that a run of `module` gets where the pool's file names none."""
    from blocks.store import ObjectStore
    from volvox.packaging.training_images import newest

    try:
        image = newest(ObjectStore.local().open(), module, gpu=bool(pool.offers.gpus))
    except VolvoxError as error:
        return Check("image", None, f"the store, which knows the training image, cannot be asked: {error}",
                     "mend that first, or name an image in the pool's file")  # fmt: skip
    if image is None:
        more = (f" --module {module}" if module != MODULE else "") + (" --gpu" if pool.offers.gpus else "")
        said = f"the file names none, and no training image of {module} was built for this store"
        mend = f"`volvox images --training{more}`, or `volvox pools enable {pool.name} --set image=NAME`"
        return Check("image", False, said, mend)
    return image.reference


async def _target(pool: PoolDefinition, template: dict[str, Any]) -> Target | Check:
    """The job as Prefect's worker would start it, but for its command."""
    from prefect.client.schemas.objects import FlowRun
    from prefect.settings import PREFECT_API_URL, temporary_settings

    try:
        values = {**_needs(pool), "command": "python -m volvox.pools.probe"}
        if pool.starts_containers:
            values["image"] = pool.image
    except InvalidInput as error:
        return Check("offers", False, str(error), "correct offers or job_variables in the pool's file")
    worker = _worker(pool.type)
    url = os.environ.get("PREFECT_API_URL", "")
    with temporary_settings({PREFECT_API_URL: url} if url else {}):
        try:
            async with _client(url or _NOWHERE, refers="{{ prefect." in repr(template)) as client:
                made = worker.job_configuration.from_template_and_values
                # By name: given by position, Prefect takes it for none and makes a client of its own.
                configuration = await made(base_job_template=template, values=values, client=client)
        except Exception as error:  # of Prefect's client, or of a worker's model that refuses a value
            return Check(
                "references", False if url else None,
                f"what the pool's file refers to is not to be had from the Prefect server: {error}",
                "save the block or the variable there (Prefect UI > Blocks), or correct its name",
            )  # fmt: skip
        run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name=f"volvox-check-{pool.name}")
        configuration.prepare_for_flow_run(run)
    return Target(pool, worker, configuration)


@contextlib.asynccontextmanager
async def _client(url: str, *, refers: bool) -> AsyncIterator[PrefectClient]:
    """A client of the server; opened, which asks the server, only where there is something to ask."""
    from prefect.client.orchestration import PrefectClient

    client = PrefectClient(url)
    if not refers:
        yield client
        return
    async with client:
        yield client


def _needs(pool: PoolDefinition) -> dict[str, Any]:
    """The job variables of a run that may have all that the pool offers, GPUs included."""
    from volvox.pools.needs import Needs
    from volvox.pools.requests import job_variables

    return job_variables(pool, Needs(gpus=pool.offers.gpus or 0))


def _worker(pool_type: str) -> Any:
    if pool_type == "docker":
        from prefect_docker.worker import DockerWorker

        return DockerWorker
    if pool_type == "kubernetes":
        from prefect_kubernetes.worker import KubernetesWorker

        return KubernetesWorker
    if pool_type == "ecs":
        from prefect_aws.workers.ecs_worker import ECSWorker

        return ECSWorker
    from prefect.workers.process import ProcessWorker

    return ProcessWorker


def _engine(pool_type: str) -> EngineChecks:
    if pool_type == "docker":
        from deployments.checks import docker as engine
    elif pool_type == "kubernetes":
        from deployments.checks import kubernetes as engine
    elif pool_type == "ecs":
        from deployments.checks import ecs as engine
    else:
        from deployments.checks import process as engine
    return engine.checks

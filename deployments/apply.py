"""Make a Prefect server match the files here: work pools, deployments, schedules, automations.

What is there and equal is left alone, so a second run changes nothing. What others made is never touched, and neither
is what an operator decides: whether a deployment, a schedule or an automation is switched on, and with which parameters
a schedule runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments import automation_files, dead_runs, doubling, ending
from deployments.job_environment import container_user, job_environment, with_store
from volvox.errors import InvalidInput, Unavailable
from volvox.identity import digest_of, files_digest
from volvox.pools.definition import PRIORITIES, PoolDefinition
from volvox.pools.files import SHIPPED, read_pools
from volvox.settings import Home

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

_HERE = Path(__file__).parent
# A Prefect variable on the server itself: a database that is made anew forgets with it what was applied.
_APPLIED = "volvox_applied"


async def apply(prefect_url: str, folder: Path = _HERE) -> list[str]:
    """Make the server at `prefect_url` match this installation; return a sentence for each change, none if it did.

    Args:
        prefect_url: Address of the server's API, e.g. `http://127.0.0.1:4200/api`.
        folder: Where `prefect.yaml`, `pools/` and `automations/` lie.

    Raises:
        InvalidInput: If a file here names what does not exist.
        Unavailable: If the server does not answer.
    """
    import httpx
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_url}):
        from prefect.client.orchestration import get_client

        try:
            async with get_client() as client:
                enabled, automations = pools(folder), automation_files.read_automations(folder, Home.current())
                changes = [change for pool in enabled.values() for change in await _pool(client, pool)]
                ending.remember(Home.current(), {one.name: str(one.id) for one in await client.read_work_pools()})
                for definition in placed_definitions(folder, enabled):
                    changes += await _deployment(client, definition)
                changes.append(await automation_files.match(client, dead_runs.automation()))
                functions = doubling.started(Home.current())
                for one in automations:
                    changes.append(await automation_files.match_file(client, one, doubling.reason(one, functions)))
                await _remember(client, folder)
        except httpx.TransportError as error:
            raise Unavailable(
                f"the Prefect server at {prefect_url} does not answer ({type(error).__name__}); `volvox up` starts one"
            ) from error
    return [change for change in changes if change]


async def is_applied(prefect_url: str, folder: Path = _HERE) -> bool:
    """Whether the server was made to match these very files before; costs one request and imports no flow."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_url}):
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            found = await client.read_variable_by_name(_APPLIED)
            return found is not None and found.value == content(folder)


def content(folder: Path = _HERE) -> str:
    """Digest of everything that decides what a server shall hold: files here, and the flows' signatures."""
    root = _HERE.parent
    code = [*_HERE.glob("*.py"), *(root / "flows").glob("*.py"), *(root / "blocks").glob("*.py")]
    code += [root / "volvox" / "records.py", *(root / "volvox" / "pools").glob("*.py")]
    enabled = [
        [pool.model_dump(mode="json"), job_environment(pool) if pool.starts_containers else {}]
        for pool in pools(folder).values()
    ]
    found = [files_digest(folder, folder.rglob("*.yaml")), files_digest(root, code), sys.executable, enabled]
    found.append(automation_files.digest(Home.current()))
    if functions := doubling.started(Home.current()):
        found.append([[one.function, one.flow, *one.resources] for one in functions])
    return digest_of(found)[:32]


def definitions(folder: Path = _HERE) -> list[dict[str, Any]]:
    """The deployments of `prefect.yaml`."""
    return _yaml(folder / "prefect.yaml")["deployments"]


def placed_definitions(folder: Path, enabled: dict[str, PoolDefinition]) -> list[dict[str, Any]]:
    """The deployments of `prefect.yaml`, and each stage once more for every other pool that is enabled."""
    found = definitions(folder)
    stages = [one for one in found if one.get("placeable")]
    for pool in enabled.values():
        for one in stages:
            if pool.name != one["name"]:
                found.append({**one, "name": pool.name, "work_pool": {"name": pool.name}, "schedules": []})
    return found


def pools(folder: Path = _HERE) -> dict[str, PoolDefinition]:
    """The work pools that this installation uses: the shipped files and the operator's, those that are enabled."""
    shipped = folder / "pools"
    found = read_pools(Home.current(), shipped if shipped.is_dir() else SHIPPED)
    return {name: with_store(pool) for name, pool in found.items() if pool.enabled}


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


async def _pool(client: PrefectClient, pool: PoolDefinition) -> list[str]:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    from deployments.job_templates import job_template

    name = pool.name
    template = job_template(pool, job_environment(pool) if pool.starts_containers else {}, user=container_user(pool))
    try:
        found = await client.read_work_pool(name)
    except ObjectNotFound:
        await client.create_work_pool(
            WorkPoolCreate(
                name=name, type=pool.type, description=pool.description,
                concurrency_limit=pool.concurrency_limit, base_job_template=template,
            )
        )  # fmt: skip
        await _queues(client, name)
        return [f"created work pool {name!r}"]
    if found.type != pool.type:
        raise InvalidInput(f"the server has a work pool {name!r} of type {found.type!r}; rename it, or ours in pools/")
    changes = await _queues(client, name)
    # A concurrency limit is the operator's to change.
    if found.base_job_template != template or found.description != pool.description:
        await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template, description=pool.description))
        changes.append(f"updated work pool {name!r}")
    return changes


async def _queues(client: PrefectClient, pool: str) -> list[str]:
    """A queue of the pool for each priority that it lacks; how they are ordered after that is the operator's."""
    there = {queue.name for queue in await client.read_work_queues(work_pool_name=pool)}
    changes: list[str] = []
    for place, name in enumerate(PRIORITIES, start=1):  # a place that is taken is given up by who has it
        if name not in there:
            await client.create_work_queue(name, work_pool_name=pool, priority=place)
            changes.append(f"created work queue {name!r} of work pool {pool!r}")
    return changes


async def _deployment(client: PrefectClient, definition: dict[str, Any]) -> list[str]:
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.exceptions import MissingFlowError, ObjectNotFound
    from prefect.flows import load_flow_from_entrypoint

    from flows.parameters import form

    try:
        flow = load_flow_from_entrypoint(definition["entrypoint"], use_placeholder_flow=False)
    except (ImportError, AttributeError, MissingFlowError) as error:
        raise InvalidInput(f"deployment {definition['name']!r} names {definition['entrypoint']}: {error}") from error
    wanted: dict[str, Any] = {
        "entrypoint": definition["entrypoint"],
        "description": definition.get("description", ""),
        "tags": sorted(definition.get("tags", [])),
        "work_pool_name": definition["work_pool"]["name"],
        "job_variables": definition["work_pool"].get("job_variables", {}),
        "parameter_openapi_schema": form(flow),
        "enforce_parameter_schema": True,
    }
    wanted["version"] = digest_of(wanted)[:12]
    name = f"{flow.name}/{definition['name']}"
    try:
        found = await client.read_deployment_by_name(name)
    except ObjectNotFound:
        flow_id = await client.create_flow_from_name(flow.name)
        await client.create_deployment(
            flow_id, name=definition["name"], schedules=[_schedule(one) for one in definition.get("schedules", [])],
            **wanted,
        )  # fmt: skip
        return [f"created deployment {name!r}"]
    changes: list[str] = []
    different = [field for field, value in wanted.items() if not _equal(getattr(found, field), value)]
    if different:
        tags = sorted({*found.tags, *wanted["tags"]})
        await client.update_deployment(found.id, DeploymentUpdate(**{**wanted, "tags": tags}))
        changes.append(f"updated deployment {name!r} ({', '.join(different)})")
    for one in definition.get("schedules", []):
        changes.append(await _update_schedule(client, found, name, one))
    return changes


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):  # tags: an operator may have added some
        return set(wanted) <= set(found or [])
    return found == wanted or (not found and not wanted)


def _schedule(one: dict[str, Any]) -> Any:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    return DeploymentScheduleCreate(
        schedule=CronSchedule(cron=one["cron"], timezone=one.get("timezone", "UTC")),
        active=one.get("active", False),
        slug=one["slug"],
        parameters=one.get("parameters", {}),
    )


async def _update_schedule(
    client: PrefectClient, deployment: DeploymentResponse, name: str, one: dict[str, Any]
) -> str:
    wanted = _schedule(one)
    found = next((each for each in deployment.schedules if each.slug == one["slug"]), None)
    if found is None:
        await client.create_deployment_schedules(deployment.id, [wanted])
        return f"created schedule {one['slug']!r} of {name!r}"
    there = (getattr(found.schedule, "cron", None), getattr(found.schedule, "timezone", None))
    if there == (wanted.schedule.cron, wanted.schedule.timezone):
        return ""
    # The server takes what is not said for empty, so what the operator set is said again.
    await client.update_deployment_schedule(
        deployment.id, found.id, schedule=wanted.schedule, active=found.active, parameters=found.parameters
    )
    return f"updated schedule {one['slug']!r} of {name!r}"


async def _remember(client: PrefectClient, folder: Path) -> None:
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    if await client.read_variable_by_name(_APPLIED) is None:
        await client.create_variable(VariableCreate(name=_APPLIED, value=content(folder), tags=["volvox"]))
    else:
        await client.update_variable(VariableUpdate(name=_APPLIED, value=content(folder), tags=["volvox"]))

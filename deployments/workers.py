"""Prefect's workers for the four kinds of pool, as this project runs them: several in one process, beside a reconciler.

A worker submits a run and looks away; the reconciler watches what it made. So Prefect's own observers, which watch the
same with less to tell, are not started; its workers do not hold a thread a container; and a stopped worker leaves
running jobs to the next one.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import json
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from volvox.errors import InvalidInput, Unavailable, VolvoxError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.workers.base import BaseWorker

    from deployments.reconciling import Reconciler
    from volvox.infrastructure.jobs import Engine
    from volvox.stack.waking import Bell

_RESTART_SECONDS = (2.0, 5.0, 15.0, 60.0)
_PULL_SECONDS = 600  # of silence, while the engine unpacks a large layer


class Pool(Protocol):
    """What is needed to know of a work pool; `volvox.pools.definition.PoolDefinition` is one."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def job_variables(self) -> Mapping[str, Any]: ...
    @property
    def gpus_total(self) -> int | None: ...


def worker_for(
    pool: Pool, name: str = "", look_now: Callable[[], None] = lambda: None, has_room: Callable[[], None] = lambda: None
) -> BaseWorker[Any, Any, Any]:
    """The worker that runs what `pool` is given.

    Args:
        pool: The work pool.
        name: What the worker is called in the Prefect UI; empty: after this machine.
        look_now: Called when a run was submitted or cancelled, so that the reconciler need not wait.
        has_room: Called when a run has ended that the worker watches itself, so that the next need not wait.

    Raises:
        InvalidInput: If there is no worker of that type.
    """
    made = {"docker": _docker_worker, "kubernetes": _kubernetes_worker, "ecs": _ecs_worker, "process": _process_worker}
    if pool.type not in made:
        raise InvalidInput(f"pool {pool.name!r} is of type {pool.type!r}; there are workers for {', '.join(made)}")
    cls = made[pool.type]()
    worker = cls(work_pool_name=pool.name, name=name or worker_name(), create_pool_if_not_found=False)
    worker.look_now, worker.has_room, worker.looking = look_now, has_room, asyncio.Lock()
    return worker


def worker_name() -> str:
    """The name of this machine's workers."""
    return re.sub(r"[/%]", "-", f"{socket.gethostname()}")


async def engine_for(pool: Pool, client: PrefectClient) -> Engine | None:
    """The engine on which the jobs of `pool` are; none for processes, which their worker watches itself.

    Args:
        pool: The work pool. Of its job variables `namespace`, `cluster_config`, `cluster` and `aws_credentials` count.
        client: For the blocks that they refer to.

    Raises:
        InvalidInput: If a block does not exist.
    """
    if pool.type == "docker":
        from volvox.infrastructure.docker import DockerEngine

        return DockerEngine()
    if pool.type == "kubernetes":
        from volvox.infrastructure.kubernetes import KubernetesEngine

        cluster = await _block(pool, "cluster_config", client)
        return KubernetesEngine(
            namespace=pool.job_variables.get("namespace") or "default",
            config=cluster.get("config"),
            context=cluster.get("context_name"),
        )
    if pool.type == "ecs":
        from volvox.infrastructure.ecs import EcsEngine

        credentials = await _block(pool, "aws_credentials", client)
        cluster_name = pool.job_variables.get("cluster") or ""
        if not credentials:
            return EcsEngine(cluster_name)
        from prefect_aws.credentials import AwsCredentials

        block = AwsCredentials.model_validate(credentials)
        return EcsEngine(cluster_name, lambda: block.get_client("ecs"))
    return None


async def work(
    pools: Iterable[Pool],
    bell: Bell,
    *,
    started: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda text: print(text, flush=True),
) -> None:
    """Run a worker for each pool and a reconciler for each engine, in this event loop, until cancelled.

    A worker that fails is started again, later each time; the others do not notice.

    Args:
        pools: The enabled pools, which the server has.
        bell: Rings for a pool that was given a run.
        started: Called once, when every worker has polled or failed for the first time.
        tell: Gets lines for the log.
    """
    from prefect.client.orchestration import get_client

    from deployments.reconciling import Reconciler

    pools, running = list(pools), dict[str, "BaseWorker[Any, Any, Any]"]()
    reconcilers: dict[str, Reconciler] = {}

    def submitting() -> set[UUID]:
        return {run_id for worker in running.values() for run_id in worker._submitting_flow_run_ids}

    async with get_client() as client, asyncio.TaskGroup() as group:
        for key, some in by_engine(pools).items():
            try:
                engine = await engine_for(some[0], client)
            except VolvoxError as error:
                tell(f"pool {some[0].name!r} is not watched: {error}")
                continue
            if engine is not None:
                names = [pool.name for pool in some]
                reconciler = Reconciler(
                    client, engine, names, submitting=submitting, workers=[worker_name()], tell=tell
                )
                reconcilers |= dict.fromkeys(names, reconciler)
                group.create_task(reconciler.forever(), name=f"reconcile {key}")
        waiting = {pool.name for pool in pools}

        def ready(name: str) -> None:
            waiting.discard(name)
            if not waiting:
                started()

        for pool in pools:
            reconciler = reconcilers.get(pool.name)
            look_now = reconciler.look_now if reconciler else lambda: None
            keeping = _keep(pool, bell, look_now, running, ready=ready, tell=tell)
            group.create_task(keeping, name=f"work for {pool.name}")


def by_engine(pools: Iterable[Pool]) -> dict[str, list[Pool]]:
    """The pools whose jobs are watched together, because they are on one engine."""
    found: dict[str, list[Pool]] = {}
    for pool in pools:
        told = [str(pool.job_variables.get(name) or "") for name in ("namespace", "cluster", "aws_credentials")]
        told.append(json.dumps(pool.job_variables.get("cluster_config"), sort_keys=True, default=str))
        key = pool.type if pool.type in ("process", "docker") else " ".join(filter(None, [pool.type, *told]))
        found.setdefault(key, []).append(pool)
    return found


async def _keep(
    pool: Pool,
    bell: Bell,
    look_now: Callable[[], None],
    running: dict[str, BaseWorker[Any, Any, Any]],
    *,
    ready: Callable[[str], None],
    tell: Callable[[str], None],
) -> None:
    from deployments.admitting import in_turns
    from deployments.missed_runs import once_for_missed_times

    failed = 0
    while True:
        try:
            has_room = functools.partial(bell.ring, pool.name)
            made = await asyncio.to_thread(worker_for, pool, look_now=look_now, has_room=has_room)
            worker = running[pool.name] = in_turns(once_for_missed_times(made), pool.gpus_total)

            def printer(text: str) -> None:
                tell(f"{pool.name}: {text}")
                ready(pool.name)

            woken = asyncio.create_task(_look_when_woken(worker, pool, bell))
            try:
                await worker.start(printer=printer)
            finally:
                woken.cancel()
            failed = 0
        except Exception as error:
            tell(f"the worker of pool {pool.name!r} failed: {error}")
        finally:
            running.pop(pool.name, None)
        ready(pool.name)
        await asyncio.sleep(_RESTART_SECONDS[min(failed, len(_RESTART_SECONDS) - 1)])
        failed += 1


async def _look_when_woken(worker: BaseWorker[Any, Any, Any], pool: Pool, bell: Bell) -> None:
    while True:
        await bell.wait(pool.name)
        if not worker.is_setup:  # it looks when it has begun; when it ends, nothing more is begun
            continue
        with contextlib.suppress(Exception):  # what it cannot find now it finds when it looks next, and says then why
            await worker.get_and_submit_flow_runs()


async def _block(pool: Pool, variable: str, client: PrefectClient) -> dict[str, Any]:
    """The content of the block that a job variable refers to; empty if it names none."""
    told = pool.job_variables.get(variable)
    if not told:
        return {}
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.templating import resolve_block_document_references

    try:
        resolved = await resolve_block_document_references({variable: told}, client=client)
        return resolved[variable]
    except (ObjectNotFound, ValueError) as error:
        raise InvalidInput(f"pool {pool.name!r} names {told!r} as {variable}, and there is no such block") from error


# -- Prefect's workers, extended -------------------------------------------------------------------------------------
# Made in functions: to import the integrations takes seconds, and a pool needs only its own. As abstract classes,
# which Prefect does not register: to others the type's name goes on to mean its own worker.


class _Lean:
    """A worker that imports no integration but its own, and may be woken."""

    looking: asyncio.Lock
    has_room: Callable[[], None] = staticmethod(lambda: None)

    async def get_and_submit_flow_runs(self) -> Any:
        """Look for runs once at a time: who looks twice at once would count the same place as free twice."""
        async with self.looking:
            return await super().get_and_submit_flow_runs()  # type: ignore[misc]

    async def _worker_metadata(self) -> None:
        """Prefect's own imports every installed integration, to tell the server their versions."""


def _watched() -> type[Any]:
    """What the three workers have in common whose jobs a reconciler watches."""
    from prefect.client.schemas.objects import StateType
    from prefect.workers.base import BaseWorkerResult

    class Watched(_Lean):
        """A worker that submits and looks away."""

        look_now: Callable[[], None] = staticmethod(lambda: None)

        async def _submit_run(self: Any, flow_run: Any) -> None:
            if flow_run.infrastructure_pid:  # of an attempt before: its job is gone, which must not be told of this one
                with contextlib.suppress(Exception):
                    await self.client.request(
                        "PATCH",
                        "/flow_runs/{id}",
                        path_params={"id": flow_run.id},
                        json={"infrastructure_pid": None},
                    )
            await super()._submit_run(flow_run)  # type: ignore[misc]

        async def run(self: Any, flow_run: Any, configuration: Any, task_status: Any = None) -> Any:
            try:
                state = (await self.client.read_flow_run(flow_run.id)).state
                if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                    raise InvalidInput("the run was cancelled before it was started")
                return await self._start(flow_run, configuration, task_status)
            except VolvoxError as error:  # a sentence for people; Prefect would show it below a traceback
                self.get_flow_run_logger(flow_run).error("%s", error)
                await self._propose_crashed_state(flow_run, str(error))
                if task_status is not None:
                    task_status.started(error)
                return BaseWorkerResult(identifier="", status_code=0)
            finally:
                self.look_now()  # it may have been cancelled meanwhile, or its image may be missing

        async def _start(self: Any, flow_run: Any, configuration: Any, task_status: Any) -> Any:
            return await super().run(flow_run, configuration, task_status)  # type: ignore[misc]

        async def _cancel_run(self: Any, flow_run_id: UUID) -> None:
            del flow_run_id  # the reconciler reads which: it also ends runs that have started
            self.look_now()

    return Watched


def _process_worker() -> type[Any]:
    from prefect.workers.process import ProcessWorker

    class LeanProcessWorker(_Lean, ProcessWorker, abc.ABC):
        """Prefect's own, without the imports."""

        async def run(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return await super().run(*args, **kwargs)
            finally:
                self.has_room()

    return LeanProcessWorker


def _docker_worker() -> type[Any]:
    import docker
    import docker.errors
    import docker.utils
    from prefect.utilities.asyncutils import run_sync_in_worker_thread
    from prefect_docker.worker import DockerWorker, DockerWorkerResult

    from volvox.infrastructure.jobs import image_trouble
    from volvox.packaging.engine import Engine

    class WatchedDockerWorker(_watched(), DockerWorker, abc.ABC):
        async def _start(self, flow_run: Any, configuration: Any, task_status: Any) -> DockerWorkerResult:
            del flow_run
            configuration.auto_remove = False  # with the container its exit code and the reason would go
            try:
                container, _ = await run_sync_in_worker_thread(self._create_and_start_container, configuration)
            except docker.errors.ImageNotFound as error:
                raise InvalidInput(image_trouble(configuration.image, str(error.explanation or error))[1]) from error
            except docker.errors.APIError as error:
                raise VolvoxError(f"the container could not be started: {error.explanation or error}") from error
            pid = self._get_infrastructure_pid(container_id=container.id or "")
            if task_status is not None:
                task_status.started(pid)
            return DockerWorkerResult(identifier=pid, status_code=0)

        def _pull_image(self, docker_client: Any, configuration: Any) -> Any:
            try:
                return super()._pull_image(docker_client, configuration)
            except docker.errors.APIError as error:
                raise InvalidInput(image_trouble(configuration.image, str(error.explanation or error))[1]) from error
            except RuntimeError as error:
                raise InvalidInput(image_trouble(configuration.image, str(error))[1]) from error

        def _get_client(self) -> Any:
            host = Engine().host  # as the reconciler finds it
            try:
                tls = docker.utils.kwargs_from_env().get("tls") or False
                return docker.DockerClient(base_url=host or None, version="auto", timeout=_PULL_SECONDS, tls=tls)
            except docker.errors.DockerException as error:
                raise Unavailable(f"the container engine at {host or 'its usual place'} does not answer") from error

    return WatchedDockerWorker


def _kubernetes_worker() -> type[Any]:
    from prefect.workers.base import BaseWorker
    from prefect_kubernetes.worker import KubernetesWorker

    from deployments.nodes import on_several_nodes

    class WatchedKubernetesWorker(on_several_nodes(), _watched(), KubernetesWorker, abc.ABC):
        async def __aenter__(self) -> Any:
            return await BaseWorker.__aenter__(self)  # not Prefect's own, which starts its observer

        async def __aexit__(self, *error: Any) -> None:
            await BaseWorker.__aexit__(self, *error)

    return WatchedKubernetesWorker


def _ecs_worker() -> type[Any]:
    from prefect.workers.base import BaseWorker
    from prefect_aws.workers import ECSWorker

    class WatchedEcsWorker(_watched(), ECSWorker, abc.ABC):
        async def __aenter__(self) -> Any:
            return await BaseWorker.__aenter__(self)  # not Prefect's own, which starts its observer

        async def __aexit__(self, *error: Any) -> None:
            await BaseWorker.__aexit__(self, *error)

    return WatchedEcsWorker

"""Containers of flow runs on a Docker engine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from volvox.errors import Unavailable
from volvox.infrastructure import jobs as told
from volvox.infrastructure.jobs import Job

# Prefect's Docker worker turns `prefect.io/flow-run-id` round, as Docker's labels are written.
RUN_LABEL = "io.prefect.flow-run-id"
POOL_LABEL = "io.prefect.work-pool-id"

_ANSWERS_SECONDS = 10.0
_NEVER = "0001-01-01"  # how the engine writes a time that has not come


class DockerEngine:
    """The containers of one Docker engine that carry the label of a flow run."""

    kind = "docker"

    def __init__(self, host: str = "") -> None:
        """Look at the engine at `host`; empty: `DOCKER_HOST`, else the first socket that this user has."""
        from volvox.packaging.engine import Engine

        self._engine = Engine(host)
        self.host = self._engine.host
        self._kept: Any = None
        self._lock = threading.Lock()
        self._ended: dict[str, Job] = {}

    async def jobs(self) -> list[Job]:
        """Every container of a flow run, with the reason if it ended badly.

        Raises:
            Unavailable: If the engine does not answer.
        """
        return await asyncio.to_thread(self._jobs)

    async def end(self, job: Job, grace_seconds: float) -> None:
        """Stop a container, by force after `grace_seconds` (0: at once), and remove it with its anonymous volumes.

        Raises:
            Unavailable: If the engine does not answer.
        """
        await asyncio.to_thread(self._end, _container_of(job.identifier), grace_seconds)

    def covers(self, identifier: str) -> bool:
        """Whether a container of this identifier would be on this engine."""
        return identifier.startswith(("http", "tcp", "unix", "ssh"))

    async def why_not(self) -> str:
        """Why the engine cannot be used; empty if it answers."""
        return await asyncio.to_thread(self._engine.why_not)

    async def close(self) -> None:
        """Give back the connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    # -- inside, in a thread -------------------------------------------------------------------------------------

    def _jobs(self) -> list[Job]:
        import docker.errors

        with self._errors("list containers"):
            found = self._api.containers(all=True, filters={"label": [RUN_LABEL]})
            base = self._api.base_url
        jobs: list[Job] = []
        for summary in found:
            if summary["State"] == "removing":  # somebody is at it, and then it is gone
                continue
            if summary["State"] in ("running", "restarting", "paused"):
                jobs.append(_job(summary["Labels"], f"{base}:{summary['Id']}", summary["Names"], "running"))
                continue
            if job := self._ended.get(summary["Id"]):
                jobs.append(job)
                continue
            with self._errors("inspect a container"):
                try:
                    details = self._api.inspect_container(summary["Id"])
                    job = read_container(details, base, self._output(details))
                except docker.errors.NotFound:  # removed since it was listed
                    continue
            if job.state == "ended":
                self._ended[summary["Id"]] = job
            jobs.append(job)
        there = {summary["Id"] for summary in found}
        self._ended = {key: job for key, job in self._ended.items() if key in there}
        return jobs

    def _output(self, details: dict[str, Any]) -> str:
        if details["State"].get("ExitCode") in (0, None) or details["State"].get("Status") == "created":
            return ""
        import docker.errors

        try:
            return self._api.logs(details["Id"], tail=told.OUTPUT_LINES).decode(errors="replace").strip()
        except docker.errors.APIError:  # some log drivers cannot be read
            return ""

    def _end(self, container: str, grace_seconds: float) -> None:
        import docker.errors

        with self._errors("end a container"):
            try:
                if grace_seconds > 0:  # without, nothing is asked to end: it would still have time to begin with that
                    self._api.stop(container, timeout=max(1, round(grace_seconds)))
                self._api.remove_container(container, v=True, force=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if "already in progress" not in str(error):  # it removes itself
                    raise

    @property
    def _api(self) -> Any:
        with self._lock:
            if self._kept is None:
                import docker
                import docker.utils

                tls = docker.utils.kwargs_from_env().get("tls") or False
                self._kept = docker.APIClient(
                    base_url=self.host or None, version="auto", timeout=round(_ANSWERS_SECONDS), tls=tls
                )
            return self._kept

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """The SDK's errors as ours."""
        import docker.errors
        import requests

        try:
            yield
        except docker.errors.NotFound:
            raise
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            where = self.host or "its usual place"
            raise Unavailable(f"the container engine at {where} did not {doing}: {error}") from error


def read_container(details: dict[str, Any], base_url: str, output: str = "") -> Job:
    """A job as the engine's own description of a container tells it.

    Args:
        details: What `docker inspect` gives.
        base_url: The engine's address as Prefect writes it into the identifier.
        output: The last lines that the container printed.
    """
    state, config = details["State"], details["Config"]
    status, code = state.get("Status", ""), state.get("ExitCode")
    made = {
        "created": _time(details.get("Created", "")),
        "started": _time(state.get("StartedAt", "")),
        "ended": _time(state.get("FinishedAt", "")),
    }
    labels, identifier, name = config["Labels"], f"{base_url}:{details['Id']}", [details["Name"]]
    if status in ("running", "restarting", "paused"):
        return _job(labels, identifier, name, "running", created=made["created"], started=made["started"])
    if status == "created" and not state.get("Error"):
        return _job(labels, identifier, name, "starting", created=made["created"])
    ended: dict[str, Any] = {"exit_code": code, "output": output, **made}
    if state.get("OOMKilled"):
        ended |= {"reason": "out_of_memory", "message": told.out_of_memory(details["HostConfig"].get("Memory"))}
    elif state.get("Error"):
        ended |= {"reason": "error", "message": f"the container could not be started: {state['Error'].strip()}"}
    elif code:
        ended |= {"reason": "error", "message": told.ended_badly(code, "container", output)}
    return _job(labels, identifier, name, "ended", **ended)


def _job(labels: dict[str, str], identifier: str, names: list[str], state: told.State, **rest: Any) -> Job:
    return Job(
        run_id=labels[RUN_LABEL],
        pool_id=labels.get(POOL_LABEL, ""),
        identifier=identifier,
        name=f"container {(names or ['?'])[0].lstrip('/')}",
        state=state,
        **rest,
    )


def _container_of(identifier: str) -> str:
    return identifier.rpartition(":")[2]


def _time(written: str) -> datetime | None:
    return None if not written or written.startswith(_NEVER) else datetime.fromisoformat(written)

"""One Job for each call of a script: the job runner's work, done through the cluster's API (`wrapping` says why)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.infrastructure.cluster import Cluster
from volvox.runner.running import Ended, how_it_ended, last_line, size_mb
from volvox.runtimes.asking import out_of_memory
from volvox.runtimes.pods import live_log, looking, wrapping
from volvox.runtimes.pods.manifests import CALL_CONTAINER, call_job
from volvox.runtimes.pods.settings import PodSettings
from volvox.runtimes.scripts import Running, Start

_LOOK_SECONDS = 0.15
_SILENT_SECONDS = 2.0  # without a pod for so long, the cluster is asked why
_TRIES = 5
_KILLED = 137  # 128 and SIGKILL
_TOLD_SECONDS = 5.0


class PodCall(Start):
    """Runs a call in a pod of the function's image."""

    def __init__(self, owner: Callable[[], str], dispatcher: str, cluster: Callable[[PodSettings], Cluster]) -> None:
        """Jobs carry `owner` and `dispatcher`; `cluster` gives the connection for settings."""
        self._owner, self._dispatcher, self._cluster = owner, dispatcher, cluster

    async def __call__(self, function: Function, running: Running) -> Ended:
        """As `Start`; the Job is removed, however it ends."""
        try:
            settings = PodSettings.of(function)
        except InvalidInput as error:
            return Ended("refused", str(error))
        name = re.sub(r"[^a-z0-9-]", "-", running.name.lower())[:57].strip("-")
        program = wrapping.program()
        job = call_job(function, settings, name=name, owner=self._owner(), dispatcher=self._dispatcher, program=program)
        call = _Call(self._cluster(settings), function, settings, job, running)
        began = time.monotonic()
        try:
            async with call.cluster.errors("run a script", f"namespace {settings.namespace!r}"):
                ended = await call.until_its_end()
        except (Unavailable, VolvoxError) as error:
            ended = Ended("transient", str(error))
        finally:
            await asyncio.shield(call.removed())
        ended.seconds = round(time.monotonic() - (call.begun or began), 3)
        return ended


class _Call:
    def __init__(
        self, cluster: Cluster, function: Function, settings: PodSettings, job: dict[str, Any], running: Running
    ) -> None:
        self.cluster = cluster
        self.begun = 0.0
        self._function, self._settings, self._job, self._running = function, settings, job, running
        self._name, self._space = job["metadata"]["name"], settings.namespace
        self._jobs = f"/apis/batch/v1/namespaces/{self._space}/jobs"
        self._token = f"\x1evolvox {uuid.uuid4().hex}\x1e"
        self._work = running.work

    async def until_its_end(self) -> Ended:
        await self.cluster.create(self._jobs, self._job)
        pod = await self._started()
        if isinstance(pod, Ended):
            return pod
        name = pod["metadata"]["name"]
        if said := await self._brought(pod):
            cannot = Ended("failed", f"the script cannot be started in its image: {said}", 127)
            if said == f"exit code {_KILLED}":
                cannot = Ended("gone", "its pod was killed before it was given its file")
            return await self._ended_already(name) or cannot
        self._running.began, self.begun = True, time.monotonic()
        following = live_log.follow(
            self.cluster, looking.pods_path(self._space, name), CALL_CONTAINER, self._work, self._token
        )
        printing, fetching = asyncio.create_task(following), asyncio.create_task(self._fetched(name))
        try:
            if not (await asyncio.wait([fetching], timeout=self._work.timeout_seconds))[0]:
                return Ended("timeout", f"it took longer than {self._work.timeout_seconds:g} s")
            ended = fetching.result()
            await asyncio.wait([printing], timeout=live_log.LATE_SECONDS)
        finally:
            for task in (printing, fetching):
                task.cancel()
            await asyncio.gather(printing, fetching, return_exceptions=True)
        if ended.kind == "failed" and ended.exit_code == _KILLED:
            ended = await self._why_killed(name, ended)
        if ended.kind == "failed" and not ended.reason:
            code = ended.exit_code or 0
            ended.reason = how_it_ended(code, ended.printed.encode(), last_line(self._work.log))
        return ended

    async def removed(self) -> None:
        """Delete the Job; its pod goes with it, politely."""
        with contextlib.suppress(VolvoxError):  # what is left is removed by the next dispatcher, or by its time
            async with self.cluster.errors("delete a job", f"namespace {self._space!r}"):
                await self.cluster.delete(f"{self._jobs}/{self._name}")

    # -- its steps -----------------------------------------------------------------------------------------------

    async def _started(self) -> dict[str, Any] | Ended:
        """Its pod, as soon as its container runs."""
        clock = time.monotonic
        deadline, asked, pod = clock() + self._settings.start_seconds, clock() + _SILENT_SECONDS, None
        while clock() < deadline:
            found = await self.cluster.items(looking.pods_path(self._space), f"job-name={self._name}")
            pod = found[0] if found else None
            if pod is None and clock() > asked:
                asked = clock() + _SILENT_SECONDS
                if said := await looking.not_made(self.cluster, self._space, "Job", self._name):
                    return Ended("transient", f"the cluster makes no pod: {said}")
            if pod is not None:
                if "running" in looking.state_of(pod):
                    return pod
                if looking.state_of(pod).get("terminated") or looking.leaving(pod):
                    return _not_run(pod, self._function)
                if said := await looking.no_start(self.cluster, pod):
                    return _cannot_run(said)
            await asyncio.sleep(_LOOK_SECONDS)
        seconds = self._settings.start_seconds
        return Ended("transient", f"no pod ran it within {seconds:g} s: {looking.why_waiting(pod)}")

    async def _brought(self, pod: dict[str, Any]) -> str:
        """Give it what it needs; what the program there said that could not take it."""
        node = str(pod["spec"].get("nodeName") or "")
        size, pieces = await asyncio.to_thread(wrapping.archive, self._work, self._token, {"RESOURCE_ID": node})
        path = looking.pods_path(self._space, pod["metadata"]["name"])
        code, said = await self.cluster.execute(path, CALL_CONTAINER, wrapping.bringing(size), given=_read(pieces))
        if code is None:
            raise Unavailable("its pod could not be given its file: the connection ended")
        return (said or f"exit code {code}") if code else ""

    async def _fetched(self, name: str) -> Ended:
        """Wait for its end, and take what it wrote."""
        path, target = looking.pods_path(self._space, name), Path(self._work.folder, "taken.tar")
        limit = (self._function.resources.storage_mb or 0) << 20
        tries = 0
        while tries < _TRIES:
            with target.open("wb") as stream:
                take = _bounded(stream.write, limit)
                try:
                    code, said = await self.cluster.execute(path, CALL_CONTAINER, wrapping.fetching(), take=take)
                except _TooMuch:
                    mb = self._function.resources.storage_mb
                    return Ended("storage", f"it wrote more than the {mb} MB it may")
            if code is not None:
                ended = await asyncio.to_thread(self._unpacked, target)
                if ended is not None:
                    return ended
                if (ended := await self._ended_already(name)) is not None:
                    return ended
                if code == _KILLED:  # with its container, of which the cluster may not have heard yet
                    return Ended("gone", "its pod was killed before its outputs were taken")
                return Ended("failed", f"its outputs cannot be taken from its image: {said or f'exit code {code}'}")
            ended = await self._ended_already(name)
            if ended is not None:
                return ended
            tries += 1 if target.stat().st_size else 0
            await asyncio.sleep(_LOOK_SECONDS)
        return Ended("transient", "its outputs could not be taken: the connection to its pod ended again and again")

    def _unpacked(self, source: Path) -> Ended | None:
        try:
            code, killed, answer = wrapping.unpack(source, Path(self._work.output))
        except tarfile.TarError:
            return None
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = "storage" if full else "transient"
            return Ended(kind, f"its outputs cannot be written: {error.strerror}")
        finally:
            source.unlink(missing_ok=True)
        text, limit = answer.decode(errors="replace"), self._function.resources.storage_mb
        if limit and (used := size_mb(self._work.output)) > limit:
            return Ended("storage", f"it wrote {used:.0f} MB, more than the {limit} MB it may", code, printed=text)
        if code and killed:
            return Ended("memory", out_of_memory(self._function.resources.memory_mb), code, printed=text)
        return Ended("failed" if code else "", "", code, printed=text)

    async def _why_killed(self, name: str, ended: Ended) -> Ended:
        """What the cluster tells of a killed one when its pod has ended, where nothing in the pod can see it."""
        path = looking.pods_path(self._space, name)
        await self.cluster.execute(path, CALL_CONTAINER, wrapping.leaving())
        deadline = time.monotonic() + _TOLD_SECONDS
        while time.monotonic() < deadline:
            pod = await self.cluster.find(path)
            if pod is None:
                break
            if how := looking.ended_before(pod):
                if how.get("reason") == "OOMKilled":
                    ended.kind, ended.reason = "memory", out_of_memory(self._function.resources.memory_mb)
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return ended

    async def _ended_already(self, name: str) -> Ended | None:
        """What became of the pod; None if it goes on."""
        pod = await self.cluster.find(looking.pods_path(self._space, name))
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            return Ended("gone", "its pod was ended from outside")
        ended = looking.leaving(pod) or "terminated" in looking.state_of(pod)
        return _not_run(pod, self._function) if ended else None


class _TooMuch(Exception):
    """More came than may be written."""


def _bounded(write: Callable[[bytes], Any], limit: int) -> Callable[[bytes], None]:
    """Takes pieces until they are more than `limit` bytes and what an archive adds; 0: as many as there are."""
    taken = 0

    def take(piece: bytes) -> None:
        nonlocal taken
        taken += len(piece)
        if limit and taken > 2 * limit + (16 << 20):
            raise _TooMuch
        write(piece)

    return take


async def _read(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    nothing = b""
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return
        if piece != nothing:
            yield piece


def _not_run(pod: dict[str, Any], function: Function) -> Ended:
    """What a pod that has ended by itself says."""
    status = pod.get("status", {})
    how = looking.ended_before(pod)
    said = str(status.get("message") or how.get("message") or status.get("reason") or "no more is said")
    if how.get("reason") == "OOMKilled":
        return Ended("memory", out_of_memory(function.resources.memory_mb), how.get("exitCode"))
    if status.get("reason") == "Evicted" and "EmptyDir" in said:
        return Ended("storage", f"it wrote more than it may: {said}")
    if how.get("reason") in ("ContainerCannotRun", "StartError"):
        return _cannot_run(said)
    if how.get("exitCode") == wrapping.LACKING:
        return Ended("failed", "the script cannot be started in its image, which has no mkfifo or no tee", 127)
    return Ended("gone", f"its pod ended beneath it ({status.get('reason') or how.get('reason') or '?'}: {said})")


def _cannot_run(said: str) -> Ended:
    """A pod that does not start: for an image without a shell trying again is of no use."""
    if "/bin/sh" in said:
        return Ended("failed", f"the script cannot be started in its image, which has no /bin/sh: {said}", 127)
    return Ended("transient", said)

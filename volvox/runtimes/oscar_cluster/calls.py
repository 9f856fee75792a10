"""A call of a script in an OSCAR cluster: waited for on one connection where it fits, else a job of the cluster.

A job's file goes into the service's bucket, and its answer comes from there, by presigned addresses, so neither side
has keys of the other's. The answer is named after the job: one that was given while nobody waited is found, and a job
that is still at it is gone on with.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from volvox.disks import replace_text
from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.events.writing import notification
from volvox.functions.definition import Function
from volvox.runner.running import Ended, how_it_ended, last_line, size_mb
from volvox.runtimes.asking import out_of_memory
from volvox.runtimes.oscar_cluster import program, services
from volvox.runtimes.oscar_cluster.client import OscarCluster
from volvox.runtimes.oscar_cluster.jobs import ENDED, PENDING, Job, Jobs
from volvox.runtimes.oscar_cluster.program import Given, Taken
from volvox.runtimes.oscar_cluster.settings import OscarSettings
from volvox.runtimes.scripts import Running, Start

_LARGEST_RUN = 4 << 20  # bytes; what goes up in one request, a third more in base64
_LOOK_SECONDS = 0.5
_LOG_SECONDS = 1.0
_LATE_SECONDS = 20.0  # beyond its own time, until the job is ended from here
_ANSWER_SECONDS = 10.0  # a job that has succeeded has uploaded its answer
_UNKNOWN_SECONDS = 3.0  # without a job that is known, the answer is looked for
_CLEAN_SECONDS = 3600.0
_KILLED = 137  # 128 and SIGKILL


class OscarCall(Start):
    """Runs calls in the services of their functions."""

    def __init__(self, cluster: Callable[[Function], OscarCluster]) -> None:
        """`cluster` gives the connection for a function."""
        self._cluster = cluster
        self._jobs: dict[tuple[OscarCluster, str], Jobs] = {}
        self._cleaning: set[asyncio.Task[None]] = set()

    async def __call__(self, function: Function, running: Running) -> Ended:
        """As `Start`."""
        began = time.monotonic()
        call = None
        try:
            settings, cluster = OscarSettings.of(function), self._cluster(function)
            service = services.script_name(function)
            jobs = self._jobs.setdefault((cluster, service), Jobs(cluster, service))
            call = _Call(cluster, function, settings, jobs, running)
            ended = await (call.run() if await self._is_run(call) else call.job())
        except InvalidInput as error:
            ended = Ended("refused" if call is None else "transient", str(error))
        except VolvoxError as error:
            ended = Ended("transient", str(error))
        finally:
            if call is not None and call.withdrawn and call.jobs.cleaning:
                task = asyncio.ensure_future(_cleaned(call.jobs))
                self._cleaning.add(task)
                task.add_done_callback(self._cleaning.discard)
        ended.seconds = ended.seconds or round(time.monotonic() - ((call and call.begun) or began), 3)
        return ended

    async def close(self) -> None:
        """Stop looking for jobs that are to be deleted; they have nothing to do when they begin."""
        for task in self._cleaning:
            task.cancel()
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    async def _is_run(self, call: _Call) -> bool:
        calls, seconds = call.settings.calls, call.running.work.timeout_seconds
        if calls != "auto" or seconds > call.settings.run_seconds:
            return calls == "run"
        input_size = Path(call.running.work.input).stat().st_size if call.running.work.input else 0
        if input_size + len(call.running.work.event) > _LARGEST_RUN:
            return False
        return bool((await call.cluster.config()).get("serverless_backend"))


class _Call:
    def __init__(
        self, cluster: OscarCluster, function: Function, settings: OscarSettings, jobs: Jobs, running: Running
    ) -> None:
        self.cluster, self.settings, self.jobs, self.running = cluster, settings, jobs, running
        self.begun = 0.0
        self.withdrawn = False
        self._function, self._service, self._work = function, services.script_name(function), running.work
        self._bucket = services.bucket_of(self._service)
        self._identity = f"{self._work.job or uuid.uuid4().hex}-{function.version[:12]}"
        self._posted = Path(self._work.folder).parent.parent / "posted" / f"{self._identity}.json"
        self._token = uuid.uuid4().hex
        self._written = 0
        self._over = False  # nothing is at it any more

    # -- on one connection -------------------------------------------------------------------------------------------

    async def run(self) -> Ended:
        """Ask `/run` and wait for its answer."""
        bearer = await self._bearer()
        size, pieces = await asyncio.to_thread(program.archive, self._work, self._given("run"))
        if size > _LARGEST_RUN + (1 << 20):
            return Ended(
                "refused", f"a call with {size >> 20} MB does not fit one request (setting calls: run); use job"
            )
        content = base64.b64encode(await asyncio.to_thread(b"".join, pieces))
        self._begins()
        limit = self._work.timeout_seconds
        patience = limit + self.settings.start_seconds + _LATE_SECONDS
        try:
            answer = await self.cluster.ask(
                "POST", f"/run/{self._service}", content=content, bearer=bearer, seconds=patience
            )
        except Unavailable as error:  # nobody knows whether it ran
            return Ended("gone", str(error))
        except NotFound as error:
            return Ended("transient", f"{error}; is it a service that was deleted, or a cluster without Knative?")
        taken = Path(self._work.folder, "taken.tar")
        if not await asyncio.to_thread(program.decoded, answer.content, taken):
            said = answer.text[-300:].strip() or "nothing"
            return Ended("failed", f"the service answered what its script does not write; it said: {said}")
        return await self._ended(taken)

    # -- as a job ----------------------------------------------------------------------------------------------------

    async def job(self) -> Ended:
        """Have a job do it, unless its answer is there already or a job is at it."""
        before = self._posted_before()
        taken = Path(self._work.folder, "taken.tar")
        try:
            ended = await self._found(taken) if before else None
            if ended is None:
                if not before or not await self._adopted():
                    await self._post()
                ended = await self._followed(taken)
        except asyncio.CancelledError:
            await asyncio.shield(self._withdraw())
            raise
        if self._over:
            await self._tidied()
        else:
            await self._withdraw()
        return ended

    def _posted_before(self) -> bool:
        """Whether an attempt has sent the event already, and is gone; its token is taken on."""
        try:
            self._token = str(json.loads(self._posted.read_text())["token"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    async def _adopted(self) -> bool:
        """Whether there is a job of the attempt before, at it or ended; waits while that is not known."""
        deadline = time.monotonic() + self.settings.start_seconds
        while time.monotonic() < deadline:
            if await self.jobs.of(self._token) is not None:
                return True
            if not self.jobs.unknown:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._token = uuid.uuid4().hex
        return False

    async def _post(self) -> None:
        """Bring its file, and send the event."""
        bearer = await self._bearer()
        user = str(((await self.cluster.config()).get("minio_provider") or {}).get("access_key") or "")
        size, _ = await asyncio.to_thread(program.archive, self._work, self._given("job"))
        await self.cluster.put(self._bucket, self._key, size, self._pieces)
        self._posted.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self._posted, json.dumps({"token": self._token}))  # before the event: it may be done and not told
        event = notification(f"s3://{self._bucket}", self._key, size=size, user=user, modified=time.time())
        try:
            await self.cluster.ask("POST", f"/job/{self._service}", content=event.encode(), bearer=bearer)
        except Unavailable:  # it may have been done all the same; whoever begins this call again looks
            raise
        except VolvoxError:
            self._posted.unlink(missing_ok=True)
            raise

    async def _followed(self, taken: Path) -> Ended:
        """Wait for its end."""
        clock = time.monotonic
        posted, log_again, job, known = clock(), 0.0, None, False
        while True:
            job = await self.jobs.of(self._token)
            known = known or job is not None
            if job is None and known:
                self._over = True
                return await self._found(taken) or Ended("gone", "its job was deleted from outside")
            if job is None and clock() - posted > _UNKNOWN_SECONDS:
                nobody = not self.jobs.unknown
                if (ended := await self._found(taken)) is not None:
                    return ended
                if nobody:
                    self._over = True
                    return Ended(
                        "gone", f"its job ended before the script began; it said: {self.jobs.said or 'nothing'}"
                    )
            if job is not None and job.status not in PENDING:
                self._begins()
                if clock() > log_again or job.status in ENDED:
                    asked = clock()
                    await self._log(job)  # all of it, each time
                    log_again = clock() + max(_LOG_SECONDS, 4 * (clock() - asked))
                if job.status in ENDED:
                    self._over = True
                    return await self._of_ended(job, taken)
            if not self.begun and clock() - posted > self.settings.start_seconds:
                why = "it waits for its quota" if job is not None and job.status == "Suspended" else "see its service"
                seconds = self.settings.start_seconds
                return Ended("transient", f"no job of {self._service} ran it within {seconds:g} s: {why}")
            if self.begun and clock() - self.begun > self._work.timeout_seconds + _LATE_SECONDS:
                return Ended("timeout", f"it took longer than {self._work.timeout_seconds:g} s")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _of_ended(self, job: Job, taken: Path) -> Ended:
        deadline = time.monotonic() + (_ANSWER_SECONDS if job.status == "Succeeded" else 0.0)
        while (ended := await self._found(taken)) is None:
            said = (await self.jobs.log(job))[-2000:].decode(errors="replace").strip().splitlines()
            last = next((line.strip() for line in reversed(said) if line.strip()), "")[-300:] or "nothing"
            if any(program.LACKING in line for line in said):
                return Ended("failed", f"the script cannot be started in its image: {last}", 127)
            if time.monotonic() > deadline:
                return Ended("gone", f"its job ended ({job.status}) and left no answer; it said: {last}")
            await asyncio.sleep(_LOOK_SECONDS)
        return ended

    async def _found(self, taken: Path) -> Ended | None:
        """What became of it, if its answer is there."""
        limit = (self._function.resources.storage_mb or 0) << 20
        size = 0

        def take(piece: int) -> None:
            nonlocal size
            size += piece
            if limit and size > 2 * limit + (80 << 20):
                raise _TooMuch

        try:
            if not await self.cluster.fetch(self._bucket, f"{program.OUT}/{self._name}", taken, take):
                return None
        except _TooMuch:
            self._over = True
            return self._too_much(size / (1 << 20))
        return await self._ended(taken)

    # -- what both have ----------------------------------------------------------------------------------------------

    async def _ended(self, taken: Path) -> Ended:
        self._begins()
        self._over = True
        try:
            told = await asyncio.to_thread(program.unpack, taken, Path(self._work.output))
        except tarfile.TarError:
            return Ended("transient", "its answer did not come whole")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return Ended("storage" if full else "transient", f"its outputs cannot be written: {error.strerror}")
        finally:
            taken.unlink(missing_ok=True)
        await asyncio.to_thread(self._say, told.said)
        ended = await asyncio.to_thread(self._judged, told)
        ended.seconds = told.seconds
        return ended

    def _judged(self, told: Taken) -> Ended:
        work, resources = self._work, self._function.resources
        text = told.printed.decode(errors="replace")
        if told.late:
            return Ended("timeout", f"it took longer than {work.timeout_seconds:g} s", told.code, printed=text)
        if resources.storage_mb and (used := size_mb(work.output)) > resources.storage_mb:
            return self._too_much(used)
        if told.code and told.killed:
            return Ended("memory", out_of_memory(resources.memory_mb), told.code, printed=text)
        if told.code == _KILLED:
            limit = f" (it may use {resources.memory_mb} MB)" if resources.memory_mb else ""
            reason = f"it was killed, as a cluster does with what uses more memory than it may{limit}"
            return Ended("memory", reason, told.code, printed=text)
        if told.code:
            reason = how_it_ended(told.code, told.printed, last_line(work.log))
            return Ended("failed", reason, told.code, printed=text)
        return Ended("", "", 0, printed=text)

    def _too_much(self, used: float) -> Ended:
        limit = self._function.resources.storage_mb
        return Ended("storage", f"it wrote {used:.0f} MB, more than the {limit} MB it may")

    async def _log(self, job: Job) -> None:
        with contextlib.suppress(VolvoxError):
            said = program.printed_so_far(await self.jobs.log(job), self._token)
            if said:
                await asyncio.to_thread(self._say, said)

    def _say(self, said: bytes) -> None:
        """Add to its log what of all that it printed is not there yet."""
        new = said[self._written :]
        if new and self._work.log:
            with contextlib.suppress(OSError), Path(self._work.log).open("ab") as stream:
                stream.write(new)
        self._written += len(new)

    def _begins(self) -> None:
        if not self.begun:
            self.running.began, self.begun = True, time.monotonic()

    def _given(self, how: str) -> Given:
        return Given(self._token, how, self._work.timeout_seconds, self._name)

    @property
    def _name(self) -> str:
        """Of its file and of its answer: after the job, and another one for each attempt that begins anew."""
        return f"{program.MARK}-{self._identity}-{self._token[:12]}.tar"

    @property
    def _nothing(self) -> bytes:
        """What is in the place of its file when there is nothing to do any more, for whatever job begins then."""
        return program.nothing(self._given("none"))

    @property
    def _key(self) -> str:
        return f"{program.IN}/{self._name}"

    async def _bearer(self) -> str:
        """A user's own token is what `/run` and `/job` want; for an administrator it is the service's."""
        if not (await self.cluster.access()).user:
            return ""
        token = str((await self.cluster.get(services.path_of(self._service))).get("token") or "")
        if not token:
            raise Unavailable(f"{self.cluster.called} does not tell the token of the service {self._service}")
        return token

    async def _pieces(self) -> AsyncIterator[bytes]:
        _, pieces = await asyncio.to_thread(program.archive, self._work, self._given("job"))
        while True:
            piece = await asyncio.to_thread(next, pieces, None)
            if piece is None:
                return
            if piece:
                yield piece

    async def _withdraw(self) -> None:
        """End its job; one that has not begun has nothing to do when it does."""
        self.withdrawn = True
        with contextlib.suppress(VolvoxError):
            job = await self.jobs.of(self._token)
            if job is not None and job.status not in PENDING:
                await self.jobs.delete(job)
            else:
                await self.cluster.put(self._bucket, self._key, len(self._nothing), lambda: _once(self._nothing))
                if job is not None:
                    await self.jobs.delete(job)
                elif self._posted.exists():
                    self.jobs.unwanted(self._token)
        self._posted.unlink(missing_ok=True)

    async def _tidied(self) -> None:
        """Leave neither the job nor what it was given and answered; of both objects the names stay, without content."""
        with contextlib.suppress(VolvoxError):
            job = await self.jobs.of(self._token)
            if job is not None:
                await self.jobs.delete(job)
        for key, content in ((self._key, self._nothing), (f"{program.OUT}/{self._name}", b"")):
            with contextlib.suppress(VolvoxError):
                await self.cluster.put(self._bucket, key, len(content), lambda content=content: _once(content))
        self._posted.unlink(missing_ok=True)


class _TooMuch(Exception):
    """More came than may be written."""


async def _once(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


async def _cleaned(jobs: Jobs) -> None:
    """Look for jobs that are to be deleted, until there is none; one that never shows does nothing if it begins."""
    deadline = time.monotonic() + _CLEAN_SECONDS
    while jobs.cleaning and time.monotonic() < deadline:
        with contextlib.suppress(VolvoxError):
            await jobs.clean()
        await asyncio.sleep(2 * _LOOK_SECONDS)

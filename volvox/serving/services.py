"""Which models a server answers for: deployed, swapped without a failed request, remembered across restarts.

In the server's folder lie `services.json` (what is served, written aside and renamed), `<name>/<model version>/` (a
version's own folder: `weights/`, `samples/`, `log`), `.uploads/` (files of requests that are being answered) and
`jobs/` (see `volvox.serving.jobs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.serving import smoke
from volvox.serving.deployed import Deployed
from volvox.serving.limits import Limits
from volvox.serving.served import ServedModel

if TYPE_CHECKING:
    from volvox.serving.deployment import Deployment
    from volvox.serving.guard import Guard
    from volvox.serving.metrics import Metrics

_MEMORY = "services.json"
JOBS = "jobs"
_CLOSE_SECONDS = 5.0
_IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}

log = logging.getLogger(__name__)


class Services:
    """The models of one server."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """The models that `folder` remembers; nothing is touched before `claim`."""
        self.folder = folder
        self.limits = limits
        self.uploads = folder / ".uploads"
        self.ending = False  # the server is about to end: what would go on for ever shall not
        self.trouble = ""  # why what was served before is not, if it cannot even be read
        self.guard: Guard | None = None  # whom it answers; everybody if there is none
        self._served: dict[str, ServedModel] = {}
        self._deploying: dict[str, asyncio.Lock] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._lock: IO[str] | None = None
        self._open = False

    @cached_property
    def metrics(self) -> Metrics:
        """What is counted; imported when there is something to count, and that is after a model has begun to load."""
        from volvox.serving.metrics import Metrics

        return Metrics(self)

    # -- life ----------------------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Take the folder: no other server may use it until this one ends, however it ends.

        Raises:
            Unavailable: If another server uses it.
        """
        if self._lock is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise Unavailable(f"another server already serves {self.folder}; end it first (`volvox down`)") from error
        self._lock = lock

    def open(self) -> None:
        """Claim the folder, remove what a killed server left, start in the background what was served before; once.

        Raises:
            Unavailable: If another server uses the folder.
        """
        if self._open:
            return
        self._open = True
        self.claim()
        shutil.rmtree(self.uploads, ignore_errors=True)
        self.uploads.mkdir()
        remembered = self._read()
        if not self.trouble:
            self._tidy(remembered)
        for deployed in remembered:
            model = self._served[deployed.name] = self._model(deployed)
            model.folder.mkdir(parents=True, exist_ok=True)
            model.start_until_ready()

    async def close(self) -> None:
        """End every worker; the requests have been answered before."""
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=_CLOSE_SECONDS)
        await asyncio.gather(*(model.end() for model in self._served.values()), return_exceptions=True)
        if self._lock is not None:
            self._lock.close()
        self._open = False

    # -- what is served ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[ServedModel]:
        """The served models by name."""
        return iter([self._served[name] for name in sorted(self._served)])

    def get(self, name: str) -> ServedModel:
        """The model served as `name`.

        Raises:
            NotFound: If there is none; the message lists those there are.
        """
        if name not in self._served:
            served = ", ".join(sorted(self._served)) or "none yet; `volvox cycle` makes one"
            raise NotFound(f"no model {name!r} is served here; served: {served}")
        return self._served[name]

    def serve(self, deployed: Deployed, weights: Path | None) -> ServedModel:
        """Serve one model of this process only: not remembered, its weights used where they lie, not yet started."""
        model = self._made(deployed, self.folder / deployed.name, weights)
        model.folder.mkdir(parents=True, exist_ok=True)
        self._served[deployed.name] = model
        return model

    def answered(self, name: str, status: int, seconds: float) -> None:
        """A request for model `name` was answered."""
        self.metrics.answered(name, status, seconds)

    # -- deploying -----------------------------------------------------------------------------------------------

    async def deploy(self, asked: Deployment) -> tuple[ServedModel, bool]:
        """Serve `asked` under its name once it has proved itself; until then the present version answers.

        Returns:
            The served model, and whether anything changed: the same model version is not deployed twice.

        Raises:
            ModuleFailed: If its worker does not start, or does not pass the smoke test; the present version goes on.
            InvalidInput: If a file that was named is not there, or the name is not to be had.
        """
        deployed = asked.deployed
        if asked.name in (_MEMORY, JOBS):
            raise InvalidInput(f"a model cannot be served as {asked.name!r}; give it another name")
        async with self._deploying.setdefault(asked.name, asyncio.Lock()):
            present = self._served.get(asked.name)
            if present is not None and present.deployed.model_version == asked.model_version:
                await present.settled()
                if present.state == "ready":
                    return present, False
                await present.end()  # the same version, which does not start: made anew
            model = self._model(deployed)
            try:
                await asyncio.to_thread(_fill, model.folder, asked)
                await model.start()
                await smoke.prove(model, asked.smoke, self.uploads)
                self._write({**self._served, asked.name: model})
            except BaseException:
                await model.end()
                if present is not None and present.folder == model.folder:
                    again = self._served[asked.name] = self._model(present.deployed)
                    again.start_until_ready()
                else:
                    await asyncio.to_thread(_remove, model.folder)
                raise
            self._served[asked.name] = model
            if present is not None and present.folder != model.folder:
                self._retire(present)
            return model, True

    async def remove(self, name: str) -> None:
        """Serve `name` no longer; requests that came in are answered.

        Raises:
            NotFound: If it is not served.
        """
        async with self._deploying.setdefault(name, asyncio.Lock()):
            present = self.get(name)
            self._write({other: model for other, model in self._served.items() if other != name})
            del self._served[name]
            self._retire(present)

    def _retire(self, model: ServedModel) -> None:
        async def retire() -> None:
            await model.retire()
            await asyncio.to_thread(_remove, model.folder)

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    # -- files ---------------------------------------------------------------------------------------------------

    def _model(self, deployed: Deployed) -> ServedModel:
        folder = self.folder / deployed.name / deployed.model_version
        return self._made(deployed, folder, folder / "weights")

    def _made(self, deployed: Deployed, folder: Path, weights: Path | None) -> ServedModel:
        model = ServedModel(deployed, folder, weights, self.limits)

        def batched(count: int) -> None:
            self.metrics.batches(deployed.name)(count)

        model.pool.observe_batch = batched
        return model

    def _read(self) -> list[Deployed]:
        kept = self.folder / _MEMORY
        try:
            return [Deployed.from_json(one) for one in json.loads(kept.read_bytes())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
            self.trouble = f"what was served before is unknown: {kept} cannot be read ({type(error).__name__})"
            log.error("%s: %s", self.trouble, error)
            with contextlib.suppress(OSError):
                kept.rename(kept.with_suffix(".unreadable"))
            return []

    def _write(self, served: dict[str, ServedModel]) -> None:
        told = [served[name].deployed.as_json() for name in sorted(served)]
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".services-")
        try:
            with os.fdopen(handle, "w") as stream:
                json.dump(told, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(self.folder / _MEMORY)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _tidy(self, remembered: list[Deployed]) -> None:
        """Remove versions that were being deployed or retired when a server was killed."""
        kept = {self.folder / deployed.name / deployed.model_version for deployed in remembered} | {self.uploads}
        for temporary in self.folder.glob(".services-*"):
            temporary.unlink(missing_ok=True)
        for folder in self.folder.glob("*/*"):
            if folder not in kept and folder.parent.name != JOBS and folder.is_dir():
                _remove(folder)


def samples(model: ServedModel) -> list[Path]:
    """The images to click on the model's try page."""
    folder = model.folder / "samples"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _fill(folder: Path, asked: Deployment) -> None:
    """Copy what the version needs, so that it can be started again when the places it came from are gone."""
    for path in (*asked.smoke, *asked.samples):
        if not path.is_file():
            raise InvalidInput(f"the file {path}, to be shown to model {asked.name!r}, does not exist")
    if asked.weights is not None and not asked.weights.is_dir():
        raise InvalidInput(f"the weights of model {asked.name!r} are said to be in {asked.weights}, which is no folder")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "samples").mkdir(parents=True)
    if asked.weights is None:
        (folder / "weights").mkdir()
    else:
        shutil.copytree(asked.weights, folder / "weights", copy_function=_link)
    for number, path in enumerate(asked.samples, start=1):
        if path.suffix.lower() in _IMAGES:
            shutil.copyfile(path, folder / "samples" / f"{number:02d}{path.suffix.lower()}")


def _link(source: Any, target: Any) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # the model's folder stays while it has other versions
        folder.parent.rmdir()

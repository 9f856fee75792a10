"""The MLflow server that records trainings and registers models."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.tracking_calls import HttpCalls, LibraryCalls, TaggedVersion
from volvox import disks, progress
from volvox.errors import Ended, Unavailable
from volvox.settings import Home

if TYPE_CHECKING:
    from mlflow import MlflowClient

_GONE_SECONDS = 15.0  # how long one is waited for that has ended: somebody may be starting it again
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its own default waits for minutes; tasks are retried as a whole
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Tracking(Block):
    """
    The MLflow server that records runs and registers models.

    Example:
        Point this process at the stored server:
        ```python
        from blocks.tracking import Tracking

        tracking = Tracking.load("BLOCK_NAME")
        await tracking.activate()
        ```
    """

    _block_type_name = "Volvox tracking"
    _block_type_slug = "volvox-tracking"

    uri: str = Field(description="Address of the tracking server, or `sqlite:///PATH` to write its database directly.")
    token: SecretStr | None = Field(default=None, description="Bearer token, if the server asks.")

    @classmethod
    def local(cls) -> Tracking:
        """The server that the environment names, else the one of this machine's stack, else the stack's database."""
        if uri := os.environ.get("MLFLOW_TRACKING_URI"):
            token = os.environ.get("MLFLOW_TRACKING_TOKEN")
            return cls(uri=uri, token=SecretStr(token) if token else None)
        home = Home.current()
        return cls(uri=_stack_address(home) or f"sqlite:///{home.folder('mlflow')}/mlflow.db")

    @property
    def served(self) -> bool:
        """Whether a server stands between us and the database."""
        return self.uri.startswith(("http://", "https://"))

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to write to this server."""
        told = {name: os.environ.get(name, value) for name, value in _QUIET.items()}
        told["MLFLOW_TRACKING_URI"] = self.uri
        if self.token is not None:
            told["MLFLOW_TRACKING_TOKEN"] = self.token.get_secret_value()
        return told

    async def activate(self, patience_seconds: float = 60.0) -> None:
        """Point this process at the server and wait until it answers.

        Raises:
            Unavailable: If it does not answer in time; `Ended`, sooner, if it is this machine's own and is gone.
        """
        os.environ.update(self.environment())
        await self._answering(patience_seconds)

    @property
    def resting(self) -> bool:
        """Whether it is this machine's own server and has had nothing to do yet; asking would start its work."""
        from volvox.stack import stack

        home = Home.current()
        return self.uri == _stack_address(home) and stack.resting(home, "mlflow")

    async def answers(self, patience_seconds: float = 1.0) -> bool:
        """Whether the server answers within so many seconds."""
        try:
            await self._answering(patience_seconds)
        except Unavailable:
            return False
        return True

    def client(self) -> MlflowClient:
        """A client of this server; slow the first time in a process, when the library is imported."""
        os.environ.update(self.environment())
        return self._client

    def create_run(self, experiment: str, name: str) -> str:
        """Create a run in `experiment`, which is created if it is missing; blocks.

        Returns:
            The run's id.

        Raises:
            Unavailable: If the server does not answer.
        """
        tags = {"mlflow.source.name": "volvox", "mlflow.source.type": "PROJECT"}
        with unavailable_told(self):
            calls = self._calls()
            return calls.create_run(calls.experiment(experiment, self._artifacts(experiment)), name, tags)

    def resume_run(self, run_id: str) -> bool:
        """Set the run's status back to RUNNING; False if the server knows no such run; blocks.

        Raises:
            Unavailable: If the server does not answer.
        """
        with unavailable_told(self):
            return self._calls().resume_run(run_id)

    def aliased(self, name: str, alias: str) -> TaggedVersion | None:
        """The version of registered model `name` that `alias` points to, or None; blocks.

        Raises:
            Unavailable: If the server does not answer.
        """
        with unavailable_told(self):
            return self._calls().aliased(name, alias)

    def run_url(self, experiment_id: str, run_id: str) -> str:
        """The run's page; empty where no server is."""
        return f"{self.uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if self.served else ""

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def _calls(self) -> LibraryCalls | HttpCalls:
        plain = self.uri.startswith(("http://127.0.0.1:", "http://localhost:")) and self.token is None
        return HttpCalls(self.uri) if plain else LibraryCalls(self.client())

    def _artifacts(self, name: str) -> str | None:
        """Where artifacts of a database without a server go: beside it; a server decides for itself."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return str(Path(self.uri.removeprefix("sqlite:///")).absolute().parent / "artifacts" / name)

    async def _answering(self, patience_seconds: float) -> None:
        if not self.served:
            return
        began, told = time.monotonic(), False
        while (said := await asyncio.to_thread(self._health, max(0.5, min(5.0, patience_seconds)))) is not None:
            waited, gone = time.monotonic() - began, self._ended()
            if gone and waited >= min(patience_seconds, _GONE_SECONDS):
                raise Ended(
                    f"MLflow at {self.uri}, which records trainings and models, has ended; "
                    "run the same command again: it starts MLflow and goes on where it was"
                )
            if gone and not told:
                progress.note("MLflow has ended and is waited for; start it again: volvox up")
                told = True
            if waited >= patience_seconds:
                raise Unavailable(
                    f"the tracking server at {self.uri} did not answer for {patience_seconds:g} s ({said}); "
                    "`volvox up` starts the local one, MLFLOW_TRACKING_URI names another"
                )
            await asyncio.sleep(0.1)

    def _ended(self) -> bool:
        """Whether it was this machine's own server and its process is gone."""
        from volvox.stack import state

        return state.ended(Home.current(), "mlflow", self.uri)

    def _health(self, timeout_seconds: float) -> str | None:
        """None if the server answers, else what is wrong; urllib, because importing a better client costs 0.2 s."""
        headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"} if self.token else {}
        request = urllib.request.Request(f"{self.uri.rstrip('/')}/health", headers=headers)  # noqa: S310 - http(s) only
        try:
            with urllib.request.urlopen(request, timeout=timeout_seconds):  # noqa: S310 - see above
                return None
        except urllib.error.HTTPError as error:  # a proxy may well know no such page: the server is there
            return None if error.code < 500 else f"it answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__


@contextlib.contextmanager
def unavailable_told(tracking: Tracking) -> Iterator[None]:
    """A server that does not answer becomes `Unavailable`; what it refuses stays MLflow's own error.

    Raises:
        Unavailable: If the server cannot be reached or failed itself.
        VolvoxError: If it did because the disk of this machine's home, where its own server writes, is full.
    """
    try:
        yield
    except Exception as error:
        code = getattr(error, "error_code", "")  # of an MlflowException; its class is not worth the import
        if code not in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"):
            raise
        if disks.is_full(home := Home.current().root):
            raise disks.full(home) from error
        said = str(error).partition("\n")[0][:300]
        raise Unavailable(f"the tracking server at {tracking.uri} does not answer: {said}") from error


def _stack_address(home: Home) -> str:
    """Where the stack's MLflow listens; empty if it does not run."""
    from volvox.stack import state

    found = state.read(home, "mlflow")
    return found.url if found is not None and found.alive else ""

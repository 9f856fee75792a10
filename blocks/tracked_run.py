"""One MLflow run, written without holding up the work that it records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blocks.tracking import Tracking, unavailable_told
from volvox.records import Dataset

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_WRITE_SECONDS = 1.0
_SYSTEM_SECONDS = 3
_PATIENCE_SECONDS = 5.0
_BATCH = 1000  # metrics that one request may hold
_log = logging.getLogger(__name__)


class TrackedRun:
    """The run of one training. Methods that talk to the server block; `log` and `recording` do not."""

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        """Write to run `run_id` of `tracking`."""
        self.tracking, self.run_id = tracking, run_id
        self._pending: list[tuple[str, float, int, int]] = []
        self._writing = threading.Lock()

    @classmethod
    def begin(cls, tracking: Tracking, experiment: str, *, name: str, kept: Path) -> TrackedRun:
        """Continue the run whose id the file `kept` holds, or create one and write its id there.

        A training that was killed and is started again thereby goes on in its own run.

        Raises:
            Unavailable: If the server does not answer.
        """
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            run_id = json.loads(kept.read_text())["run_id"]
            if tracking.resume_run(run_id):
                return cls(tracking, run_id)
        run_id = tracking.create_run(experiment, name)
        temporary = kept.with_suffix(".part")
        temporary.write_text(json.dumps({"run_id": run_id, "uri": tracking.uri}))
        temporary.replace(kept)
        return cls(tracking, run_id)

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str], dataset: Dataset) -> None:
        """Write what the training was given; writing the same again changes nothing.

        Raises:
            Unavailable: If the server does not answer.
        """
        from mlflow.entities import Dataset as TrackedDataset
        from mlflow.entities import DatasetInput, InputTag, Param, RunTag

        client = self.tracking.client()
        told = [Param(_key(name), str(value)[:6000]) for name, value in parameters.items()]
        given = TrackedDataset(
            name=dataset.name,
            digest=dataset.digest[:32],
            source_type="volvox",
            source=json.dumps({"uri": _without_secrets(dataset.source)}),
            profile=json.dumps({part: dataset.total(part) for part in dataset.counts}),
        )
        with unavailable_told(self.tracking):
            for start in range(0, max(len(told), 1), 100):
                run_tags = [RunTag(name, value[:5000]) for name, value in tags.items()] if start == 0 else []
                client.log_batch(self.run_id, params=told[start : start + 100], tags=run_tags)
            client.log_inputs(self.run_id, [DatasetInput(given, [InputTag("mlflow.data.context", "training")])])

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Have the numbers among `metrics` written soon; returns at once."""
        now = int(time.time() * 1000)
        self._pending += [(_key(name), float(value), now, step) for name, value in metrics.items() if is_number(value)]

    def artifacts(self, folder: Path, place: str) -> None:
        """Keep the files of `folder` with the run, below `place`.

        Raises:
            Unavailable: If the server does not answer.
        """
        with unavailable_told(self.tracking):
            self.tracking.client().log_artifacts(self.run_id, str(folder), place)

    def write(self) -> None:
        """Write what `log` was given.

        Raises:
            Unavailable: If the server does not answer; nothing is lost, the next call tries again.
        """
        from mlflow.entities import Metric

        with self._writing, unavailable_told(self.tracking):
            while batch := self._pending[:_BATCH]:
                self.tracking.client().log_batch(self.run_id, metrics=[Metric(*told) for told in batch])
                del self._pending[: len(batch)]

    @contextlib.asynccontextmanager
    async def recording(self, logs: Path, begin: Callable[[], None]) -> AsyncIterator[None]:
        """Write metrics, the machine's own among them, while the block runs; close the run as the block ends.

        An error closes it as FAILED and a cancel as KILLED, with the reason as a tag, within seconds even if the server
        has gone.

        Args:
            logs: Folder with what the training prints; kept with the run as it is closed.
            begin: Called in a thread as the block starts, to write what is known by then.

        Raises:
            Unavailable: If the block ended well and the server does not take the rest.
        """
        writing = asyncio.create_task(self._write_now_and_then())
        beginning = asyncio.ensure_future(asyncio.to_thread(begin))
        monitoring = asyncio.ensure_future(asyncio.to_thread(self._monitor))
        try:
            yield
            await beginning
            await asyncio.to_thread(self._close, "FINISHED", "", await monitoring, logs)
        except BaseException as error:
            killed = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
            reason = "cancelled" if killed else str(error)
            with contextlib.suppress(Exception):  # what happened matters more than that it could not be recorded
                monitor = await asyncio.wait_for(monitoring, _PATIENCE_SECONDS)
                closing = asyncio.to_thread(self._close, "KILLED" if killed else "FAILED", reason, monitor, logs)
                await asyncio.wait_for(closing, _PATIENCE_SECONDS)
            raise
        finally:
            writing.cancel()
            beginning.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _close(self, status: str, reason: str, monitor: SystemMetricsMonitor | None, logs: Path) -> None:
        if monitor is not None:
            monitor.finish()
        self.write()
        self.artifacts(logs, "log")
        with unavailable_told(self.tracking):
            client = self.tracking.client()
            client.set_tag(self.run_id, "volvox.reason", reason[:5000])
            client.set_terminated(self.run_id, status)

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            if self._pending:
                try:
                    await asyncio.to_thread(self.write)
                except Exception as error:  # training goes on; the last write tells if the server stays away
                    _log.warning("metrics wait: %s", error)

    def _monitor(self) -> SystemMetricsMonitor | None:
        """MLflow's own sampling of processor, memory, disk, network and GPU, from where an earlier try stopped."""
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor(
                self.run_id, sampling_interval=_SYSTEM_SECONDS, resume_logging=True, tracking_uri=self.tracking.uri
            )
            monitor.start()
        except Exception as error:
            _log.warning("no system metrics: %s", error)
            return None
        return monitor


def is_number(value: Any) -> bool:
    """Whether `value` is a number, which a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(name: str) -> str:
    """A name that MLflow takes for metrics and parameters."""
    return re.sub(r"[^\w./ -]", "_", name)[:250]


def _without_secrets(source: str) -> str:
    """An address without user, password and query: signed URLs carry their signature there."""
    parts = urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() if parts.netloc else source

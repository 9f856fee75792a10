"""The few calls that open a run, through MLflow's library or, for the server of this machine, by plain HTTP.

The library costs more than a second to import. A training needs its run's id before it can begin and nothing else, so
that second is spent beside the training instead of before it.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient


class TaggedVersion(NamedTuple):
    """A registered version as the server tells it."""

    version: str
    run_id: str
    tags: dict[str, str]


_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class LibraryCalls:
    """The calls through MLflow's own client, which knows every kind of address and login."""

    def __init__(self, client: MlflowClient) -> None:
        """Call through `client`."""
        self.client = client

    def experiment(self, name: str, artifacts: str | None) -> str:
        """Id of the experiment `name`; if it is missing it is created, with its artifacts at that place."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, artifact_location=artifacts)
            except MlflowException as error:
                found = self.client.get_experiment_by_name(name)  # another process may have made it meanwhile
                if found is None:
                    raise error
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def create_run(self, experiment_id: str, name: str, tags: dict[str, str]) -> str:
        """Id of a new run."""
        return self.client.create_run(experiment_id, run_name=name, tags=tags).info.run_id

    def resume_run(self, run_id: str) -> bool:
        """Set a run's status to RUNNING; False if there is no such run."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            return False
        return True

    def aliased(self, name: str, alias: str) -> TaggedVersion | None:
        """The version of model `name` that `alias` points to, or None."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            return None
        return TaggedVersion(str(found.version), found.run_id or "", dict(found.tags))


class HttpError(Exception):
    """The server refused a call, or did not answer it (`error_code` is `TEMPORARILY_UNAVAILABLE` then)."""

    def __init__(self, message: str, error_code: str) -> None:
        super().__init__(message)
        self.error_code = error_code


class HttpCalls:
    """The same calls by HTTP, without login: for the server of this machine."""

    def __init__(self, uri: str, timeout_seconds: float = 20.0) -> None:
        """Call the server at `uri`."""
        self.uri, self.timeout_seconds = uri.rstrip("/"), timeout_seconds

    def experiment(self, name: str, artifacts: str | None) -> str:
        """Id of the experiment `name`; if it is missing it is created."""
        wanted = {"name": name, **({"artifact_location": artifacts} if artifacts else {})}
        found = self._named(name)
        if found is None:
            with contextlib.suppress(HttpError):  # another process may have made it meanwhile; else the next call tells
                return self._call("experiments/create", wanted)["experiment_id"]
            found = self._named(name)
        if found is None:
            return self._call("experiments/create", wanted)["experiment_id"]
        if found.get("lifecycle_stage") == "deleted":
            self._call("experiments/restore", {"experiment_id": found["experiment_id"]})
        return found["experiment_id"]

    def create_run(self, experiment_id: str, name: str, tags: dict[str, str]) -> str:
        """Id of a new run."""
        asked = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": int(time.time() * 1000),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return self._call("runs/create", asked)["run"]["info"]["run_id"]

    def resume_run(self, run_id: str) -> bool:
        """Set a run's status to RUNNING; False if there is no such run."""
        try:
            self._call("runs/update", {"run_id": run_id, "status": "RUNNING"})
        except HttpError as error:
            if error.error_code not in _MISSING:
                raise
            return False
        return True

    def aliased(self, name: str, alias: str) -> TaggedVersion | None:
        """The version of model `name` that `alias` points to, or None."""
        query = urllib.parse.urlencode({"name": name, "alias": alias})
        try:
            found = self._call(f"registered-models/alias?{query}")["model_version"]
        except HttpError as error:
            if error.error_code not in _MISSING:
                raise
            return None
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        return TaggedVersion(str(found["version"]), found.get("run_id", ""), tags)

    def _named(self, name: str) -> dict[str, Any] | None:
        query = urllib.parse.urlencode({"experiment_name": name})
        try:
            return self._call(f"experiments/get-by-name?{query}")["experiment"]
        except HttpError as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the address is http, checked where this class is chosen
            f"{self.uri}/api/2.0/mlflow/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:  # noqa: S310 - see above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read()
            with contextlib.suppress(ValueError, KeyError, TypeError):
                told = json.loads(said)
                raise HttpError(str(told["message"]), str(told["error_code"])) from error
            raise HttpError(f"HTTP {error.code}", "TEMPORARILY_UNAVAILABLE" if error.code >= 500 else "") from error
        except (OSError, ValueError) as error:
            raise HttpError(str(error) or type(error).__name__, "TEMPORARILY_UNAVAILABLE") from error

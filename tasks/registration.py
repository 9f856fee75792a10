"""Decide whether a model may become champion, and register it."""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.tracking import Tracking, unavailable_told
from blocks.tracking_calls import TaggedVersion
from tasks.evaluation import evaluate_model, evaluation_key
from tasks.retries import is_transient
from tasks.reuse import find as find_record
from tasks.reuse import locked
from volvox import __version__, progress
from volvox.errors import GateRefused, InvalidInput, Unavailable, VolvoxError
from volvox.modules.discovery import Module, find
from volvox.naming import checked_name
from volvox.published import CHAMPION, PREVIOUS
from volvox.records import Dataset, Evaluation, ModelVersion, TrainedModel, Verdict
from volvox.settings import Home
from volvox.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from volvox.evaluation.comparison import Difference

_LESS_IS_BETTER = ("calibration_error", "log_loss")
_ANSWERS_AT_ONCE_SECONDS = 0.5


@task(
    name="register_model",
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
)
@progress.working
async def register_model(
    name: str, model: TrainedModel, evaluation: Evaluation, dataset: Dataset, *, store: Store, tracking: Tracking
) -> ModelVersion:
    """Register `model` as a version of `name` and make it champion, if the gate lets it.

    The gate: the metric that the module states reaches the module's threshold, and the model is not worse than the
    present champion on the same held-out images beyond noise. A version is found by the model's digest before it is
    made, so the same model is registered once, whatever was killed meanwhile.

    Args:
        name: The registered model.
        model: What was trained.
        evaluation: Its evaluation on `dataset`.
        dataset: Whose held-out part both models are measured on.
        store: Where predictions and the pointer to the champion are kept.
        tracking: The MLflow server; an unchanged champion is confirmed without it if it is down.

    Raises:
        GateRefused: If the model is not good enough; the champion stays, and `verdict` holds the numbers.
        InvalidInput: If the name, or the quality that the module's metadata state, cannot be used.
        Unavailable: If the MLflow server does not answer (tried again twice).
    """
    checked_name(name)
    module = find(model.module)
    async with locked(store, "registration", name):
        kept = find_record(store, CHAMPION, name, ModelVersion)
        if kept is not None and kept.model == model.digest and await _still_champion(kept, tracking):
            progress.reused()
            return kept
        await tracking.activate()
        champion = await asyncio.to_thread(tracking.aliased, name, CHAMPION)
        verdict = await _verdict(module, model, evaluation, dataset, champion=champion, store=store)
        if not verdict.accepted:
            raise GateRefused(f"{name}: the gate refused the model, {_stays(champion)}: {verdict.reason}", verdict)
        registering = _Registration(
            name=name, model=model, evaluation=evaluation, dataset=dataset, module=module, verdict=verdict,
            store=store, tracking=tracking,
        )  # fmt: skip
        version = await asyncio.to_thread(registering.promote, champion)
        store.put_record("version", f"{name}-{version.version}", version.model_dump(mode="json"))
        store.put_record(CHAMPION, name, version.model_dump(mode="json"))
        if champion is not None and champion.version != version.version:
            before = find_record(store, "version", f"{name}-{champion.version}", ModelVersion)
            if before is not None:
                store.put_record(PREVIOUS, name, before.model_dump(mode="json"))
        return version


async def _still_champion(kept: ModelVersion, tracking: Tracking) -> bool:
    """Whether MLflow's alias agrees with the pointer we kept; a server that is down is not asked twice."""
    if not tracking.served or tracking.resting or not await tracking.answers(_ANSWERS_AT_ONCE_SECONDS):
        return True
    try:
        found = await asyncio.to_thread(tracking.aliased, kept.name, CHAMPION)
    except Unavailable:
        return True
    return found is not None and found.version == kept.version and found.tags.get("volvox.model") == kept.model


def _stays(champion: TaggedVersion | None) -> str:
    return f"version {champion.version} stays champion" if champion else "nothing is registered"


# -- the gate ----------------------------------------------------------------------------------------------------------


async def _verdict(
    module: Module,
    model: TrainedModel,
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    champion: TaggedVersion | None,
    store: Store,
) -> Verdict:
    from volvox.evaluation.comparison import judge

    metric, threshold = stated_quality(module, evaluation)
    value = evaluation.metrics[metric]
    if champion is None:
        return judge(metric, value, threshold)
    if champion.tags.get("volvox.model") == model.digest:
        return judge(metric, value, threshold, champion=champion.version, remark="it is the champion already")
    try:
        theirs = await _champion_evaluation(champion, dataset, store)
        difference = await asyncio.to_thread(_difference, evaluation, theirs, dataset, metric, store)
    except Unavailable:
        raise
    except (VolvoxError, OSError) as error:
        remark = f"champion {champion.version} could not be compared: {error}"
        return judge(metric, value, threshold, champion=champion.version, remark=remark)
    return judge(
        metric, value, threshold, champion=champion.version, champion_value=theirs.metrics.get(metric),
        difference=difference,
    )  # fmt: skip


def stated_quality(module: Module, evaluation: Evaluation) -> tuple[str, float]:
    """The metric and the least value of it that `quality: {metric, threshold}` in the module's metadata state.

    Raises:
        InvalidInput: If they cannot be used.
    """
    stated = module.metadata().get("quality") or {}
    if not isinstance(stated, dict):
        raise InvalidInput(
            f"`quality` in the metadata of module {module.name!r} must have the keys metric and threshold"
        )
    metric, threshold = str(stated.get("metric", "accuracy")), stated.get("threshold", 0.5)
    if metric in _LESS_IS_BETTER or metric not in evaluation.metrics:
        usable = ", ".join(sorted(set(evaluation.metrics) - set(_LESS_IS_BETTER)))
        raise InvalidInput(f"module {module.name!r} states its quality as {metric!r}; the gate can use: {usable}")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise InvalidInput(f"module {module.name!r} states the threshold {threshold!r}, which is no number")
    return metric, float(threshold)


async def _champion_evaluation(champion: TaggedVersion, dataset: Dataset, store: Store) -> Evaluation:
    """The champion's evaluation on the same held-out data; kept, so that it is made once for each dataset."""
    needed = ("volvox.module", "volvox.code", "volvox.weights")
    if missing := [tag for tag in needed if tag not in champion.tags]:
        raise InvalidInput(f"it was not registered by Volvox (no tag {missing[0]})")
    model = TrainedModel(
        module=champion.tags["volvox.module"], module_version=champion.tags.get("volvox.module_version", ""),
        code=champion.tags["volvox.code"], dataset="", arguments={}, weights_tree=champion.tags["volvox.weights"],
    )  # fmt: skip
    kept = find_record(store, "evaluation", evaluation_key(model, dataset), Evaluation)
    return kept or await evaluate_model.fn(model, dataset, store, Home.current())


def _difference(ours: Evaluation, theirs: Evaluation, dataset: Dataset, metric: str, store: Store) -> Difference | None:
    """The paired comparison, over the classes of the data and of both models; None without predictions of both."""
    from volvox.evaluation.comparison import COMPARABLE, paired_bootstrap
    from volvox.evaluation.predictions import Predictions

    if not (ours.predictions_object and theirs.predictions_object and metric in COMPARABLE):
        return None
    new, old = (Predictions.load(store.path(one.predictions_object)) for one in (ours, theirs))
    classes = tuple(dict.fromkeys([*dataset.classes, *new.classes, *old.classes]))
    new, old = new.over(classes), old.over(classes).of(new.files)
    return paired_bootstrap(new.labels, new.probabilities, old.probabilities, metric)


# -- MLflow ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Registration:
    """One model on its way to being a registered version; its methods block."""

    name: str
    model: TrainedModel
    evaluation: Evaluation
    dataset: Dataset
    module: Module
    verdict: Verdict
    store: Store
    tracking: Tracking

    @property
    def tags(self) -> dict[str, str]:
        """What the version is found by, and made of."""
        return {
            "volvox.model": self.model.digest,
            "volvox.module": self.model.module,
            "volvox.module_version": self.model.module_version,
            "volvox.code": self.model.code,
            "volvox.dataset": self.dataset.digest,
            "volvox.evaluation": self.evaluation.digest,
            "volvox.weights": self.model.weights_tree,
        }

    def promote(self, champion: TaggedVersion | None) -> ModelVersion:
        """Find or make the version and point `champion` to it; the one that was it becomes `previous`."""
        with unavailable_told(self.tracking):
            client = self.tracking.client()
            version = self._found(client) or self._made(client)
            if champion is not None and champion.version != version:
                client.set_registered_model_alias(self.name, PREVIOUS, champion.version)
            client.set_registered_model_alias(self.name, CHAMPION, version)
            client.set_model_version_tag(self.name, version, "volvox.verdict", self.verdict.reason)
        return ModelVersion(
            name=self.name, version=version, model=self.model.digest, module=self.model.module, code=self.model.code,
            weights_tree=self.model.weights_tree, run_id=self.model.run_id, verdict=self.verdict, champion=True,
        )  # fmt: skip

    def _found(self, client: MlflowClient) -> str | None:
        wanted = f"name='{self.name}' and tags.`volvox.model`='{self.model.digest}'"
        found = client.search_model_versions(wanted, max_results=100)
        return str(min(int(version.version) for version in found)) if found else None

    def _made(self, client: MlflowClient) -> str:
        """Log the model with its run and make a version of it."""
        from mlflow.exceptions import MlflowException

        run_id = self._run(client)
        model_id = self._logged(client, run_id)
        try:
            client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            self.name, f"models:/{model_id}", run_id=run_id, tags=self.tags, model_id=model_id, await_creation_for=0
        )
        return str(made.version)

    def _run(self, client: MlflowClient) -> str:
        """The run that trained the model; a new one where the server no longer has it."""
        from mlflow.exceptions import MlflowException

        try:
            return client.get_run(self.model.run_id).info.run_id
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        run_id = self.tracking.create_run(self.name, f"{self.model.module}-{self.dataset.name}")
        for tag, value in self.tags.items():
            client.set_tag(run_id, tag, value)
        client.set_terminated(run_id)
        return run_id

    def _logged(self, client: MlflowClient, run_id: str) -> str:
        """Id of the logged model: one that a killed registration left ready, or a new one."""
        import mlflow.pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, ModelSignature
        from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Schema

        experiment_id = client.get_run(run_id).info.experiment_id
        for found in client.search_logged_models([experiment_id], f"tags.`volvox.model` = '{self.model.digest}'"):
            if found.status == "READY":
                return found.model_id
            client.delete_logged_model(found.model_id)  # its files may be incomplete
        outputs: list[Any] = [
            ColSpec(DataType.string, "label"), ColSpec(DataType.double, "probability"),
            ColSpec(Array(DataType.string), "labels"), ColSpec(Array(DataType.double), "probabilities"),
        ]  # fmt: skip
        weights = self.store.tree(self.model.weights_tree)
        logged = client.create_logged_model(experiment_id, self.name, run_id, self.tags)
        with tempfile.TemporaryDirectory(prefix="volvox-model-") as folder:
            place = Path(folder, "model")
            mlflow.pyfunc.save_model(
                place,
                mlflow_model=Model(
                    artifact_path=logged.artifact_location, run_id=run_id, model_uuid=logged.model_id,
                    model_id=logged.model_id,
                ),
                loader_module="volvox.pyfunc",
                data_path=str(weights),
                signature=ModelSignature(Schema([ColSpec(AnyType())]), Schema(outputs)),
                input_example=[self._example()],
                pip_requirements=[f"volvox=={__version__}", f"{self.module.distribution}=={self.module.version}"],
                model_config={"module": self.model.module, "classes": len(self.dataset.classes)},
            )  # fmt: skip
            client.log_model_artifacts(logged.model_id, str(place))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        return logged.model_id

    def _example(self) -> str:
        """A held-out image as a data URL, which works wherever the model is loaded; a small one."""
        from volvox.evaluation.predictions import held_out

        root = self.store.tree(self.dataset.held_out_tree)
        files = [root / "images" / file for file in list(held_out(root))[:50]]
        image = min(files, key=lambda file: file.stat().st_size)
        kind = mimetypes.guess_type(image.name)[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(image.read_bytes()).decode()}"

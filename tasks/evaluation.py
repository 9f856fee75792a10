"""Score a model on the held-out part of a dataset."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.tracked_run import TrackedRun, is_number
from blocks.tracking import Tracking
from tasks.retries import is_transient
from tasks.reuse import once
from volvox import progress
from volvox.errors import InvalidInput, ModuleFailed, NotFound
from volvox.identity import stage_key
from volvox.modules.calling import call_module
from volvox.modules.discovery import find
from volvox.records import Dataset, Evaluation, TrainedModel
from volvox.settings import Home
from volvox.store import Store

if TYPE_CHECKING:
    from volvox.evaluation.predictions import Predictions

_FORM = "1"  # to be raised when the metrics or the report change: evaluations are made again then

_SHOW_SECONDS = 10.0


@task(
    name="evaluate_model",
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
)
@progress.working
async def evaluate_model(
    model: TrainedModel, dataset: Dataset, store: Store, home: Home, tracking: Tracking | None = None
) -> Evaluation:
    """Score `model` on the held-out part of `dataset`, or find that it was done.

    The module's own `evaluate` answers with predictions or with metrics; a module without one, or one whose `evaluate`
    refuses data with other classes, is asked through its `predict`, image by image. Metrics and pictures are added to
    the model's MLflow run and to the Prefect run.

    Args:
        model: What to score.
        dataset: Whose test part to use.
        store: Where predictions and report are kept.
        home: Where the work is done.
        tracking: Where the model's run is; None leaves the run as it is.

    Raises:
        UnknownModule: If the model's module is not installed.
        ModuleFailed: If it raises, or answers what cannot be read.
        Unavailable: If the tracking server does not answer (tried again twice).
    """
    key = evaluation_key(model, dataset)

    async def evaluate() -> Evaluation:
        return await _evaluate(model, dataset, home.cache / "work" / key, store, tracking)

    return await once(store, "evaluation", key, Evaluation, evaluate)


def evaluation_key(model: TrainedModel, dataset: Dataset) -> str:
    """Identity of the evaluation of `model` on `dataset`."""
    return stage_key("evaluation", code=_FORM, inputs=[model.digest, dataset.digest])


async def _evaluate(
    model: TrainedModel, dataset: Dataset, work: Path, store: Store, tracking: Tracking | None
) -> Evaluation:
    from volvox.evaluation import plots

    shutil.rmtree(work, ignore_errors=True)
    output, report = work / "output", work / "report"
    for folder in (output, report):
        folder.mkdir(parents=True)
    drawing = asyncio.ensure_future(asyncio.to_thread(plots.load))
    try:
        held_out = await asyncio.to_thread(store.tree, dataset.held_out_tree)
        weights = await asyncio.to_thread(store.tree, model.weights_tree)
        predictions, numbers = await _asked(model.module, dataset, held_out, weights, output)
        await drawing
        made = await asyncio.to_thread(
            _scored, model, dataset, predictions, numbers, images=held_out / "images", report=report, store=store
        )
        await asyncio.gather(_tracked(made, model, report, tracking), _shown(made, model, dataset, tracking))
        return made
    finally:
        drawing.add_done_callback(lambda done: done.cancelled() or done.exception())
        shutil.rmtree(work, ignore_errors=True)


async def _asked(
    module: str, dataset: Dataset, held_out: Path, weights: Path, output: Path
) -> tuple[Predictions | None, dict[str, float]]:
    """What the module says of the held-out images: predictions over the dataset's classes, and its own numbers."""
    from volvox.evaluation import predictions

    find(module)
    places = {"data": held_out, "output": output, "weights": weights}
    truth = predictions.held_out(held_out)
    try:
        answered = await call_module(module, "evaluate", places=places, on_progress=_advance)
    except (NotFound, InvalidInput):  # it has no evaluate, or one that takes only data with the classes it learned
        images = held_out / "images"
        asked = {
            "files": [str(images / file) for file in truth],
            "answers": str(output / "answers.jsonl"),
            "classes": len(dataset.classes),
        }
        await call_module(module, "score", asked, places={"weights": weights})
        lines = (output / "answers.jsonl").read_text().splitlines()
        return predictions.from_answers(lines, images, truth, dataset.classes), {}
    answered = answered if isinstance(answered, dict) else {}
    numbers = {name: float(value) for name, value in dict(answered.get("metrics") or {}).items() if is_number(value)}
    if not answered.get("predictions"):
        if not numbers:
            raise ModuleFailed(f"evaluate() of module {module!r} returned neither predictions nor metrics")
        return None, numbers
    file = (output / str(answered["predictions"])).resolve()
    if not file.is_relative_to(output.resolve()):
        raise ModuleFailed(f"evaluate() of module {module!r} names predictions outside of its output: {file}")
    said = predictions.Predictions.load(file, answered.get("classes") or dataset.classes)
    return said.over(dataset.classes, truth), numbers


def _advance(line: dict[str, Any]) -> None:
    progress.advance(line.get("done") or 0, line.get("total") or 0, str(line.get("unit") or "images"))


def _scored(
    model: TrainedModel,
    dataset: Dataset,
    predictions: Predictions | None,
    numbers: dict[str, float],
    *,
    images: Path,
    report: Path,
    store: Store,
) -> Evaluation:
    """Metrics, pictures and the record; what is large goes to the store."""
    from volvox.evaluation import metrics, plots

    made = Evaluation(model=model.digest, dataset=dataset.digest, metrics=numbers, images=dataset.total("test"))
    if predictions is not None:
        scores = metrics.score(predictions.labels, predictions.probabilities, predictions.classes)
        confidence = predictions.probabilities.max(axis=1)
        correct = predictions.probabilities.argmax(axis=1) == predictions.labels
        plots.confusion_matrix(scores.confusion, predictions.classes, report / "confusion.png")
        plots.reliability_diagram(confidence, correct, report / "reliability.png")
        plots.worst_mistakes(predictions, images, report / "mistakes.png")
        kept = report.parent / "predictions.npz"
        predictions.save(kept)
        made = made.model_copy(
            update={
                "metrics": {**numbers, **scores.metrics},
                "per_class": scores.per_class[: len(dataset.classes)],
                "confusion": tuple(tuple(row) for row in scores.confusion.tolist()),
                "predictions_object": store.put_file(kept),
                "images": len(predictions.files),
            }
        )
    (report / "evaluation.json").write_text(
        made.model_dump_json(indent=1, exclude={"predictions_object", "report_tree"})
    )
    return made.model_copy(update={"report_tree": store.put_tree(report)})


async def _tracked(made: Evaluation, model: TrainedModel, report: Path, tracking: Tracking | None) -> None:
    """Add metrics and pictures to the model's MLflow run."""
    if tracking is None or not model.run_id:
        return
    await tracking.activate()

    def write() -> None:
        from mlflow.exceptions import MlflowException

        run = TrackedRun(tracking, model.run_id)
        run.log({f"test_{name}": value for name, value in made.metrics.items()}, 0)
        try:
            run.write()
            run.artifacts(report, "evaluation")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            progress.note(f"the tracking server no longer has the run {model.run_id}; the evaluation is kept here only")

    await asyncio.to_thread(write)


async def _shown(made: Evaluation, model: TrainedModel, dataset: Dataset, tracking: Tracking | None) -> None:
    """Show the evaluation with the Prefect run, if this is one; a picture that cannot be shown stops nothing."""
    from prefect.artifacts import acreate_image_artifact, acreate_markdown_artifact
    from prefect.context import FlowRunContext, TaskRunContext

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    key = re.sub(r"[^a-z0-9]+", "-", f"evaluation-{dataset.name}".lower()).strip("-")
    showing = [acreate_markdown_artifact(_markdown(made, model, dataset), key=key, description="Held-out data only.")]
    if tracking is not None and tracking.served and model.run_id and made.confusion:
        url = f"{tracking.uri.rstrip('/')}/get-artifact?path=evaluation%2Fconfusion.png&run_uuid={model.run_id}"
        showing.append(acreate_image_artifact(url, key=f"{key}-confusion", description="Row: true, column: predicted."))
    with contextlib.suppress(Exception):  # Prefect's client alone would try for minutes where the server is gone
        await asyncio.wait_for(asyncio.gather(*showing, return_exceptions=True), _SHOW_SECONDS)


def _markdown(made: Evaluation, model: TrainedModel, dataset: Dataset) -> str:
    """The evaluation as a page."""
    lines = [
        f"# {model.module} on {dataset.name}: {made.images} held-out images",
        "",
        "| metric | value |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value:.4f} |" for name, value in sorted(made.metrics.items())]
    if made.per_class:
        lines += ["", "| class | precision | recall | F1 | images |", "|---|---|---|---|---|"]
        for score in made.per_class:
            name = json.dumps(score.name, ensure_ascii=False)[1:-1].replace("|", "\\|")
            lines.append(f"| {name} | {score.precision:.3f} | {score.recall:.3f} | {score.f1:.3f} | {score.support} |")
    return "\n".join(lines)

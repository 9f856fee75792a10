"""The steps of the cycle as one plain script: no Prefect, no records to find again, no child process for the module.

`python -m benchmarks.plain FOLDER NAME SEED` on a running stack; prints the seconds of each step as JSON. It is what
`benchmarks.cycle` compares with, and does the same work with the same libraries: prepare, train, evaluate, register,
build context, catalogue page, deploy, ask.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from volvox.settings import Home
from volvox.stack.state import addresses, token
from volvox.store import Store


def main(folder: str, name: str, seed: str) -> None:
    """Do every step and print what each took."""
    home = Home.current()
    store = Store.open(home.store, home.cache)
    steps = _Steps()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        dataset = steps.timed("data", _prepare, folder, home, store)
        client, run = _run(home, name)
        trained = steps.timed("training", _train, dataset, store, work, int(seed), client, run)
        scores = steps.timed("evaluation", _evaluate, dataset, store, work, client, run, trained)
        version = steps.timed("registration", _register, name, client, run, trained, store, scores)
        image = steps.timed("packaging", _package, version, dataset, store)
        steps.timed("publication", _publish, version, trained, scores, dataset, image, store, home)
        file = steps.timed("serving", _deploy, version, dataset, store, home)
        steps.timed("inference", _ask, name, file, home)
    print(json.dumps({"steps": steps.seconds, "accuracy": scores.metrics["accuracy"]}))


class _Steps:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, step: str, function: Any, *arguments: Any) -> Any:
        began = time.monotonic()
        result = function(*arguments)
        self.seconds[step] = time.monotonic() - began
        return result


def _prepare(folder: str, home: Home, store: Store) -> Any:
    from volvox.data.options import Options
    from volvox.data.prepare import prepare
    from volvox.data.sources import find_source

    never, source = threading.Event(), find_source(folder, home, "")
    with source.opened(never) as opened:
        return prepare(opened, Options(), store, name=source.name, source=source.shown, cancelled=never)


def _run(home: Home, name: str) -> tuple[Any, str]:
    from mlflow import MlflowClient

    client = MlflowClient(addresses(home)["mlflow"])
    experiment = client.get_experiment_by_name(name)
    run = client.create_run(experiment.experiment_id if experiment else client.create_experiment(name))
    return client, run.info.run_id


def _train(dataset: Any, store: Store, work: Path, seed: int, client: Any, run: str) -> Any:
    from image_classifier import api
    from marshmallow import Schema

    from volvox.modules.discovery import find
    from volvox.records import TrainedModel

    output = work / "output"
    output.mkdir()
    loaded: Any = Schema.from_dict(api.get_train_args())().load({"seed": seed})
    arguments = dict(loaded)
    returned = api.train(
        data=str(store.tree(dataset.learning_tree)),
        output=str(output),
        checkpoints=str(work / "checkpoints"),
        **arguments,
    )
    for line in (output / "progress.jsonl").read_text().splitlines():
        told = json.loads(line)
        for metric, value in told.get("metrics", {}).items():
            client.log_metric(run, metric, value, step=told.get("step", 0))
    (output / "progress.jsonl").unlink()
    client.log_artifacts(run, str(output), "weights")
    module = find("image_classifier")
    return TrainedModel(
        module=module.name, module_version=module.version, code=module.code, dataset=dataset.digest,
        arguments={"seed": seed}, weights_tree=store.put_tree(output), run_id=run, metrics=returned["metrics"],
    )  # fmt: skip


def _evaluate(dataset: Any, store: Store, work: Path, client: Any, run: str, trained: Any) -> Any:
    from image_classifier import api

    from volvox.evaluation import metrics, plots, predictions
    from volvox.records import Evaluation

    output, report = work / "scored", work / "report"
    for folder in (output, report):
        folder.mkdir()
    plots.load()
    held_out = store.tree(dataset.held_out_tree)
    told = api.evaluate(data=str(held_out), output=str(output), weights=str(store.tree(trained.weights_tree)))
    found = predictions.Predictions.load(output / told["predictions"], told["classes"])
    scores = metrics.score(found.labels, found.probabilities, found.classes)
    correct = found.probabilities.argmax(axis=1) == found.labels
    plots.confusion_matrix(scores.confusion, found.classes, report / "confusion.png")
    plots.reliability_diagram(found.probabilities.max(axis=1), correct, report / "reliability.png")
    plots.worst_mistakes(found, held_out / "images", report / "mistakes.png")
    for metric, value in scores.metrics.items():
        client.log_metric(run, f"test_{metric}", value)
    client.log_artifacts(run, str(report), "evaluation")
    client.set_terminated(run)
    return Evaluation(
        model=trained.digest, dataset=dataset.digest, metrics=scores.metrics, per_class=scores.per_class,
        confusion=tuple(tuple(row) for row in scores.confusion.tolist()), report_tree=store.put_tree(report),
        images=len(found.files),
    )  # fmt: skip


def _register(name: str, client: Any, run: str, trained: Any, store: Store, scores: Any) -> Any:
    import mlflow

    from volvox.evaluation.comparison import judge
    from volvox.records import ModelVersion

    mlflow.set_tracking_uri(client.tracking_uri)
    with mlflow.start_run(run_id=run):
        logged = mlflow.pyfunc.log_model(
            name=name, loader_module="volvox.pyfunc", data_path=str(store.tree(trained.weights_tree)),
            pip_requirements=["volvox"], registered_model_name=name, model_config={"module": trained.module},
        )  # fmt: skip
    version = str(logged.registered_model_version)
    client.set_registered_model_alias(name, "champion", version)
    return ModelVersion(
        name=name, version=version, model=trained.digest, module=trained.module, code=trained.code,
        weights_tree=trained.weights_tree, run_id=run, champion=True,
        verdict=judge("accuracy", scores.metrics["accuracy"], 0.5),
    )  # fmt: skip


def _package(version: Any, dataset: Any, store: Store) -> Any:
    from volvox.evaluation.predictions import held_out
    from volvox.modules.discovery import find
    from volvox.packaging.context import Recipe, image_labels
    from volvox.packaging.images import Packaging

    module, folder = find(version.module), store.tree(dataset.held_out_tree)
    recipe = Recipe(
        title=version.name, version=version.version, module=module, weights=store.tree(version.weights_tree),
        check=folder / "images" / min(held_out(folder)), base="python:3.11-slim", gpu=False,
        labels=image_labels(version.name, version.version, module.metadata(), {}, base="python:3.11-slim"),
    )  # fmt: skip
    return Packaging(recipe, version.digest, store, threading.Event()).keep("this script builds none")


def _publish(version: Any, trained: Any, scores: Any, dataset: Any, image: Any, store: Store, home: Home) -> None:
    from volvox.catalogue.facts import Published
    from volvox.catalogue.page import write_page
    from volvox.catalogue.site import Site
    from volvox.modules.discovery import find

    published = Published(
        version, trained, scores, dataset, image, find(version.module), argument="image", licence="Apache-2.0"
    )
    with tempfile.TemporaryDirectory() as place:
        page = Path(place, "page")
        write_page(
            published, page, report=store.tree(scores.report_tree), sbom=store.path(image.sbom_object),
            today=datetime.datetime.now(datetime.UTC).date(),
        )  # fmt: skip
        tree = store.put_tree(page)
    Site(home.root / "catalogue").publish(version.name, tree, store.tree(tree))


def _deploy(version: Any, dataset: Any, store: Store, home: Home) -> Path:
    import httpx

    from volvox.evaluation.predictions import held_out

    folder = store.tree(dataset.held_out_tree)
    file = folder / "images" / min(held_out(folder))
    answer = httpx.put(
        f"{addresses(home)['web']}/admin/models/{version.name}",
        headers={"Authorization": f"Bearer {token(home)}"}, timeout=60,
        json={
            "version": version.version, "model_version": version.digest, "module": version.module,
            "weights": str(store.tree(version.weights_tree)), "smoke": [str(file)], "samples": [str(file)],
            "labels": list(dataset.classes),
        },
    )  # fmt: skip
    answer.raise_for_status()
    return file


def _ask(name: str, file: Path, home: Home) -> None:
    import httpx

    url = f"{addresses(home)['web']}/v2/models/{name}/predict/"
    httpx.post(url, files={"image": file.read_bytes()}, timeout=60).raise_for_status()


if __name__ == "__main__":
    main(*sys.argv[1:4])

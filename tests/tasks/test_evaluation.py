import asyncio
import json

import numpy as np
import pytest

from tasks.evaluation import evaluate_model
from tasks.training import train_model
from volvox import progress
from volvox.errors import InvalidInput, ModuleFailed
from volvox.modules.discovery import find
from volvox.records import Evaluation, TrainedModel


@pytest.fixture
def make_model(store, tmp_path, dataset):
    """Weights of the learner as its training leaves them, without the training."""

    def make(skill: float = 0.8, classes: tuple[str, ...] = dataset.classes, run_id: str = "") -> TrainedModel:
        folder = tmp_path / f"weights-{skill}-{'-'.join(classes)}"
        folder.mkdir(exist_ok=True)
        (folder / "model.json").write_text(json.dumps({"skill": skill, "classes": classes}))
        return TrainedModel(
            module="learner", module_version="1.0", code=find("learner").code, dataset=dataset.digest, arguments={},
            weights_tree=store.put_tree(folder), run_id=run_id,
        )  # fmt: skip

    return make


@pytest.fixture
def evaluate(dataset, store, home):
    def run(model, tracking=None, on=dataset) -> Evaluation:
        return asyncio.run(evaluate_model.fn(model, on, store, home, tracking))

    return run


def test_asking_predict_image_by_image_scores_as_the_modules_own_evaluate_does(
    learner, make_model, evaluate, install_module, store
) -> None:
    asked = evaluate(make_model())
    assert 0.5 < asked.metrics["accuracy"] < 1.0
    assert asked.images == 60 and sum(map(sum, asked.confusion)) == 60
    assert [score.name for score in asked.per_class] == ["cat", "dog", "owl"]
    api = find("learner").folder / "api.py"
    from tests.tasks.conftest import EVALUATE

    api.write_text(api.read_text() + EVALUATE)
    own = evaluate(make_model())
    assert own.digest != asked.digest
    assert own.confusion == asked.confusion and own.metrics["accuracy"] == asked.metrics["accuracy"]


def test_the_report_has_pictures_numbers_and_the_predictions_can_be_read_again(
    evaluating_learner, make_model, evaluate, store
) -> None:
    made = evaluate(make_model())
    report = store.tree(made.report_tree)
    assert sorted(file.name for file in report.iterdir()) == [
        "confusion.png", "evaluation.json", "mistakes.png", "reliability.png",
    ]  # fmt: skip
    assert json.loads((report / "evaluation.json").read_text())["metrics"] == made.metrics
    with np.load(store.path(made.predictions_object)) as kept:
        assert kept["probabilities"].shape == (60, 3) and list(kept["classes"]) == ["cat", "dog", "owl"]


def test_the_run_gets_test_metrics_and_pictures(
    evaluating_learner, dataset, store, home, tracking, name, evaluate
) -> None:
    model = asyncio.run(
        train_model.fn(
            "learner", dataset, {"skill": 0.9}, name=name, start_from=None, store=store, home=home, tracking=tracking
        )
    )
    made = evaluate(model, tracking)
    run = tracking.client().get_run(model.run_id)
    assert run.data.metrics["test_accuracy"] == made.metrics["accuracy"]
    files = {file.path for file in tracking.client().list_artifacts(model.run_id, "evaluation")}
    assert {"evaluation/confusion.png", "evaluation/mistakes.png", "evaluation/reliability.png"} < files
    assert run.info.status == "FINISHED"


def test_a_run_that_the_server_has_lost_does_not_stop_the_evaluation(
    evaluating_learner, make_model, evaluate, tracking
) -> None:
    seen: list[progress.Event] = []
    with progress.listening(seen.append):
        made = evaluate(make_model(run_id="0" * 32), tracking)
    assert made.images == 60
    assert any("no longer has the run" in event.text for event in seen)


def test_an_evaluation_is_done_once(evaluating_learner, make_model, evaluate) -> None:
    first = evaluate(make_model())
    seen: list[progress.Event] = []
    with progress.listening(seen.append):
        assert evaluate(make_model()) == first
    assert [event.kind for event in seen] == ["reused", "worked"]


def test_a_model_that_learned_other_classes_is_measured_by_name(
    evaluating_learner, make_model, make_dataset, evaluate
) -> None:
    """It knows `dog` and `owl` in another order and a `fox` that the data does not have."""
    found = find("learner").folder / "api.py"
    found.write_text(found.read_text().replace("chosen = names[_chosen", "chosen = ['cat', 'dog', 'owl'][_chosen"))
    made = evaluate(make_model(1.0, ("owl", "cat", "fox")), on=make_dataset(("cat", "dog", "owl")))
    # evaluate() chooses the column of the label's number: cat -> owl, dog -> cat, owl -> fox
    assert made.metrics["accuracy"] == 0.0
    assert np.array(made.confusion).shape == (4, 4)
    assert made.confusion[0][2] == made.confusion[1][0] == made.confusion[2][3] == 20


def test_a_module_that_only_reports_numbers_is_taken_at_its_word(learner, make_model, evaluate, store) -> None:
    api = find("learner").folder / "api.py"
    api.write_text(
        api.read_text() + "\ndef evaluate(data): return {'metrics': {'map50': 0.7, 'name': 'x', 'ok': True}}\n"
    )
    made = evaluate(make_model())
    assert made.metrics == {"map50": 0.7}
    assert made.predictions_object == "" and made.images == 60
    assert [file.name for file in store.tree(made.report_tree).iterdir()] == ["evaluation.json"]


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ("{}", ModuleFailed, "neither predictions nor metrics"),
        ("{'predictions': '../../../../etc/passwd'}", ModuleFailed, "outside of its output"),
        ("{'predictions': 'missing.npz'}", ModuleFailed, "missing.npz"),
        ("1 / 0", ModuleFailed, "division by zero"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_and_leaves_nothing(
    learner, make_model, evaluate, home, returned, error, message
) -> None:
    api = find("learner").folder / "api.py"
    api.write_text(api.read_text() + f"\ndef evaluate(data): return {returned}\n")
    with pytest.raises(error, match=message) as caught:
        evaluate(make_model())
    assert "\n" not in str(caught.value)
    assert not list((home.cache / "work").iterdir())


def test_predictions_for_unknown_true_classes_are_refused(tmp_path) -> None:
    from volvox.evaluation.predictions import Predictions

    said = Predictions(("cat", "fox"), np.array([1]), np.array([[0.1, 0.9]]), ("a.png",))
    with pytest.raises(InvalidInput, match="fox"):
        said.over(("cat", "dog"))

import asyncio
import json
import threading
from pathlib import Path

import pytest

from tasks.evaluation import evaluate_model
from tasks.registration import register_model
from volvox import progress
from volvox.errors import GateRefused, InvalidInput, NotFound
from volvox.modules.discovery import find
from volvox.published import published_version
from volvox.records import TrainedModel


@pytest.fixture
def trained(evaluating_learner, store, tmp_path, dataset):
    """A model of the learner that is right about this share of the images; no training is needed for it."""

    def make(skill: float, mark: str = "") -> TrainedModel:
        folder = tmp_path / f"weights-{skill}-{mark}"
        folder.mkdir(exist_ok=True)
        (folder / "model.json").write_text(json.dumps({"skill": skill, "classes": dataset.classes, "mark": mark}))
        return TrainedModel(
            module="learner", module_version="1.0", code=find("learner").code, dataset=dataset.digest, arguments={},
            weights_tree=store.put_tree(folder), run_id="0" * 32,
        )  # fmt: skip

    return make


@pytest.fixture
def register(dataset, store, home, tracking, name):
    def run(model: TrainedModel, on=dataset):
        async def both():
            scores = await evaluate_model.fn(model, on, store, home)
            return await register_model.fn(name, model, scores, on, store=store, tracking=tracking)

        return asyncio.run(both())

    return run


def alias(tracking, name: str, which: str) -> str | None:
    found = tracking.aliased(name, which)
    return found.version if found else None


def versions(tracking, name: str) -> list:
    return tracking.client().search_model_versions(f"name='{name}'")


def test_the_first_model_above_the_threshold_becomes_champion_with_its_digests(
    register, trained, tracking, name, dataset
):
    model = trained(0.9)
    version = register(model)
    assert version.version == "1" and version.champion and version.verdict.accepted
    assert version.verdict.threshold == 0.6
    found = tracking.aliased(name, "champion")
    assert found.tags["volvox.model"] == model.digest and found.tags["volvox.dataset"] == dataset.digest
    assert found.tags["volvox.code"] == model.code and found.tags["volvox.weights"] == model.weights_tree
    assert alias(tracking, name, "previous") is None


def test_a_model_below_the_threshold_is_refused_with_its_numbers(register, trained, tracking, name) -> None:
    with pytest.raises(GateRefused, match=r"accuracy 0\.\d+ is below the module's threshold of 0\.6000") as refused:
        register(trained(0.3))
    assert refused.value.verdict.value < 0.6 and not refused.value.verdict.accepted
    assert tracking.aliased(name, "champion") is None and versions(tracking, name) == []


def test_a_worse_model_is_refused_and_the_champion_stays(register, trained, tracking, name, store) -> None:
    champion = register(trained(1.0))
    with pytest.raises(GateRefused, match="version 1 stays champion") as refused:
        register(trained(0.75))
    verdict = refused.value.verdict
    assert verdict.low < verdict.difference < verdict.high < 0
    assert verdict.champion == "1" and verdict.champion_value == 1.0
    assert alias(tracking, name, "champion") == "1" and len(versions(tracking, name)) == 1
    assert published_version(store, name) == champion


def test_a_model_that_is_as_good_beyond_noise_takes_over_and_the_other_becomes_previous(
    register, trained, tracking, name, store
) -> None:
    register(trained(0.95))
    second = register(trained(0.95, "retrained"))
    assert second.version == "2" and second.verdict.difference == 0
    assert (alias(tracking, name, "champion"), alias(tracking, name, "previous")) == ("2", "1")
    assert published_version(store, name) == second
    assert published_version(store, f"{name}/1").version == "1"
    assert published_version(store, f"{name}@champion") == second
    assert published_version(store, f"{name}@previous").version == "1"
    with pytest.raises(NotFound, match="knows no version 7"):
        published_version(store, f"{name}/7")


def test_the_same_digest_twice_is_one_version_and_says_reused(register, trained, tracking, name) -> None:
    first = register(trained(0.9))
    seen: list[progress.Event] = []
    with progress.listening(seen.append):
        assert register(trained(0.9)) == first
    assert [event.kind for event in seen].count("reused") == 2  # the evaluation and the registration
    assert len(versions(tracking, name)) == 1


def test_a_kill_between_version_and_alias_makes_no_second_version(
    register, trained, tracking, name, monkeypatch
) -> None:
    client = tracking.client()
    with monkeypatch.context() as patched:
        patched.setattr(client, "set_registered_model_alias", _killed)
        with pytest.raises(KeyboardInterrupt):
            register(trained(0.9))
    assert len(versions(tracking, name)) == 1 and tracking.aliased(name, "champion") is None
    assert register(trained(0.9)).version == "1"
    assert alias(tracking, name, "champion") == "1" and len(versions(tracking, name)) == 1


def test_a_kill_between_logged_model_and_version_leaves_one_logged_model(
    register, trained, tracking, name, monkeypatch
) -> None:
    client = tracking.client()
    with monkeypatch.context() as patched:
        patched.setattr(client, "create_model_version", _killed)
        with pytest.raises(KeyboardInterrupt):
            register(trained(0.9))
    register(trained(0.9))
    experiment = client.get_experiment_by_name(name)
    assert len(client.search_logged_models([experiment.experiment_id])) == 1


def _killed(*arguments, **keywords):
    raise KeyboardInterrupt


def test_two_who_register_the_same_model_at_once_get_one_version(register, trained, tracking, name) -> None:
    model = trained(0.9)
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(register(model).version)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert made == ["1", "1"] and len(versions(tracking, name)) == 1


def test_a_lost_pointer_is_found_again_in_the_registry(register, trained, tracking, name, store) -> None:
    register(trained(0.9))
    (store.root / "records" / "champion" / f"{name}.json").unlink()
    again = register(trained(0.9))
    assert again.version == "1" and "champion already" in again.verdict.reason
    assert alias(tracking, name, "previous") is None and published_version(store, name) == again


def test_a_champion_whose_weights_are_gone_is_told_and_only_the_threshold_counts(
    register, trained, tracking, name, store
) -> None:
    champion = trained(1.0)
    register(champion)
    evaluations = store.root / "records" / "evaluation"
    for record in evaluations.iterdir():
        record.unlink()
    store.path(champion.weights_tree).unlink()
    import shutil

    shutil.rmtree(store.cache / "trees" / champion.weights_tree)
    version = register(trained(0.8))
    assert version.version == "2" and "champion 1 could not be compared" in version.verdict.reason
    assert version.verdict.champion_value is None


@pytest.mark.parametrize("refuses", [False, True])
def test_the_champion_is_measured_on_new_data_by_class_name(register, trained, make_dataset, refuses) -> None:
    if refuses:  # as a careful module does; then its predict is asked
        api = find("learner").folder / "api.py"
        check = 'model["classes"] != Path(data, "dataset_files", "classes.txt").read_text().splitlines()'
        refusal = f'    if {check}:\n        raise validate.ValidationError("other classes")\n    lines = ['
        api.write_text(api.read_text().replace("    lines = [", refusal))
    register(trained(1.0))
    more = make_dataset(("cat", "dog", "owl", "fox"), 80)
    with pytest.raises(GateRefused) as refused:
        register(trained(0.7), on=more)
    verdict = refused.value.verdict
    assert verdict.champion_value == pytest.approx(0.75), "a champion that never saw a fox misses just these"


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        ("quality: good", "must have the keys"),
        ("quality: {metric: beauty}", "states its quality as 'beauty'"),
        ("quality: {metric: log_loss}", "the gate can use: accuracy"),
        ("quality: {threshold: high}", "'high', which is no number"),
    ],
)
def test_a_quality_that_cannot_be_used_is_refused(register, trained, quality, message) -> None:
    model = trained(0.9)
    Path(find("learner").metadata_file).write_text(quality)
    with pytest.raises(InvalidInput, match=message):
        register(model.model_copy(update={"code": find("learner").code}))


def test_a_bad_name_is_refused_before_anything_is_done(dataset, store, tracking, trained) -> None:
    with pytest.raises(InvalidInput, match="cannot name a model"):
        asyncio.run(register_model.fn("A/b", trained(1.0), None, dataset, store=store, tracking=tracking))


def test_the_champion_answers_through_mlflow_without_a_pickle(
    register, trained, tracking, name, dataset, store
) -> None:
    import mlflow.pyfunc
    import pandas

    register(trained(1.0))
    mlflow.set_tracking_uri(tracking.uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    images = store.tree(dataset.held_out_tree) / "images"
    paths = [str(images / "0-0.png"), str(images / "2-2.png")]
    for asked in (paths, pandas.DataFrame({"image": paths})):
        assert [answer["label"] for answer in loaded.predict(asked)] == ["cat", "owl"]
    (answer,) = loaded.predict([Path(paths[0]).read_bytes()])
    assert answer["labels"][0] == answer["label"] and answer["probability"] == pytest.approx(0.8)
    assert len(loaded.predict(loaded.input_example)) == 1
    files = [Path(file.path).suffix for file in tracking.client().list_logged_model_artifacts(loaded.metadata.model_id)]
    assert ".pkl" not in files and loaded.metadata.flavors["python_function"]["loader_module"] == "volvox.pyfunc"

import json
from pathlib import Path

import numpy as np
import pytest

from volvox.errors import InvalidInput, ModuleFailed
from volvox.evaluation.predictions import Predictions, from_answers, held_out


def said() -> Predictions:
    return Predictions(("cat", "dog"), np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), ("a.png", "b c.png"))


def test_what_is_saved_is_read_again(tmp_path) -> None:
    said().save(tmp_path / "p.npz")
    read = Predictions.load(tmp_path / "p.npz")
    assert read.classes == ("cat", "dog") and read.files == ("a.png", "b c.png")
    assert np.allclose(read.probabilities, said().probabilities) and read.labels.tolist() == [0, 1]


def test_a_pickle_in_the_file_is_refused(tmp_path) -> None:
    np.savez(tmp_path / "p.npz", labels=np.array([{}], dtype=object), probabilities=np.zeros((1, 2)), files=["a"])
    with pytest.raises(ModuleFailed, match="allow_pickle=False"):
        Predictions.load(tmp_path / "p.npz", ("a", "b"))


@pytest.mark.parametrize("rows", [1, 3])
def test_sizes_that_disagree_are_told(tmp_path, rows) -> None:
    np.savez(tmp_path / "p.npz", labels=[0, 1], probabilities=np.zeros((rows, 2)), files=["a", "b"])
    with pytest.raises(ModuleFailed, match=r"holds 2 labels, 2 files and probabilities of shape \("):
        Predictions.load(tmp_path / "p.npz", ("a", "b"))


def test_other_classes_are_found_by_name_and_those_of_the_model_alone_come_last() -> None:
    over = said().over(("dog", "owl", "cat"))
    assert over.classes == ("dog", "owl", "cat") and over.labels.tolist() == [2, 0]
    assert over.probabilities.tolist() == [[0.1, 0, 0.9], [0.8, 0, 0.2]]
    fewer = said().over(("dog",), {"a.png": "dog", "b c.png": "dog"})
    assert fewer.classes == ("dog", "cat") and fewer.labels.tolist() == [0, 0]


def test_the_datas_labels_replace_the_models_own() -> None:
    assert said().over(("cat", "dog"), {"a.png": "dog", "b c.png": "cat"}).labels.tolist() == [1, 0]
    assert said().over(("cat", "dog"), {"a.png": "dog"}).labels.tolist() == [0, 1], "not if it does not know all files"


def test_labels_that_no_class_has_are_refused() -> None:
    lost = Predictions(("cat",), np.array([3]), np.array([[1.0]]), ("a.png",))
    with pytest.raises(InvalidInput, match="outside of the 1 classes"):
        lost.over(("cat",))


def test_predictions_are_put_in_another_order() -> None:
    assert said().of(["b c.png"]).labels.tolist() == [1]
    with pytest.raises(InvalidInput, match=r"no prediction for z\.png"):
        said().of(["z.png"])


def test_answers_of_predict_become_probabilities(tmp_path) -> None:
    lines = [json.dumps({"file": str(tmp_path / "x" / "a.png"), "labels": ["fox", "cat"], "probabilities": [0.6, 0.3]})]
    read = from_answers(lines, tmp_path, {"x/a.png": "cat"}, ("cat", "dog"))
    assert read.classes == ("cat", "dog", "fox") and read.labels.tolist() == [0]
    assert read.probabilities.tolist() == [[0.3, 0.0, 0.6]] and read.files == ("x/a.png",)


def test_the_held_out_list_may_have_spaces_in_names(tmp_path) -> None:
    lists = Path(tmp_path, "dataset_files")
    lists.mkdir()
    (lists / "classes.txt").write_text("cat\nwild dog\n")
    (lists / "test.txt").write_text("a b/c d.png 1\ne.png 0\n")
    assert held_out(tmp_path) == {"a b/c d.png": "wild dog", "e.png": "cat"}
    (lists / "test.txt").write_text("e.png 7\n")
    with pytest.raises(InvalidInput, match="does not list a test part"):
        held_out(tmp_path)

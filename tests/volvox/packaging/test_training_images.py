from __future__ import annotations

import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.packaging import standin
from volvox.errors import Unavailable, VolvoxError
from volvox.modules import discovery
from volvox.packaging import training_images
from volvox.packaging.requirements import Pin
from volvox.packaging.training_context import Dependencies, TrainingRecipe
from volvox.packaging.training_images import TrainingImage, TrainingPackaging, newest
from volvox.store import Store


class Engine:
    """An engine that builds in an instant, and notes what it was asked for."""

    def __init__(self) -> None:
        self.images: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.asked: list[tuple[list[str], str]] = []
        self.contexts: list[list[str]] = []
        self.pushed: list[str] = []
        self.answer: tuple[int, str] = (0, "")

    def find(self, context: str) -> str:
        return self.images.get(context, "")

    def has(self, image: str) -> bool:
        return image in self.images.values()

    def build(self, context_tar: Path, context: str, cancelled: threading.Event) -> str:
        with tarfile.open(context_tar) as archive:
            self.contexts.append(archive.getnames())
        return self.images.setdefault(context, f"sha256:{context}")

    def ask(self, image: str, command: list[str], cancelled: threading.Event, **options: Any) -> tuple[int, str]:
        self.asked.append((command, options["user"]))
        return self.answer

    def name(self, image: str, repository: str, tags: tuple[str, ...]) -> None:
        self.names |= {f"{repository}:{tag}": image for tag in tags}

    def image(self, image: str) -> dict[str, Any]:
        return {"Id": image, "Size": 123}

    def layers(self, image: str) -> tuple[tuple[str, int], ...]:
        return (("RUN code", 23), ("RUN dependencies", 100))

    def push(self, image: str, reference: str) -> str:
        self.pushed.append(reference)
        return f"{reference.rpartition(':')[0]}@sha256:d1"

    def remove(self, image: str) -> None:
        self.images = {context: known for context, known in self.images.items() if known != image}


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def packaging(tmp_path: Path, store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> TrainingPackaging:
    return _packaging(tmp_path, store, engine, monkeypatch)


def _packaging(
    place: Path, store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch, code: str = standin.CODE
) -> TrainingPackaging:
    standin.install(place / "site", monkeypatch, code=code)
    recipe = TrainingRecipe(discovery.find("standin"), "base")
    recipe.__dict__["dependencies"] = Dependencies("base", (Pin("numpy", "2.4.6"),))
    return TrainingPackaging(recipe, engine, store, place / "wheels", threading.Event())  # type: ignore[arg-type]


def test_the_record_says_where_the_image_is_and_a_worker_finds_it(packaging: TrainingPackaging, engine: Engine) -> None:
    made = packaging.build()
    assert newest(packaging.store, "standin") == made
    assert newest(packaging.store, "standin", gpu=True) is None
    assert engine.names[made.name] == engine.names["volvox/training-standin:latest"] == made.image_id
    assert made.name == f"volvox/training-standin:{made.code[:12]}"
    assert (made.reference, made.bytes) == (made.name, 123)
    assert made.dependencies in engine.names


def test_what_was_built_is_current_until_code_engine_or_registry_say_otherwise(
    packaging: TrainingPackaging, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packaging.current() is None
    made = packaging.build()
    assert packaging.current() == made
    assert packaging.current("registry.example.org") is None
    changed = _packaging(tmp_path, packaging.store, engine, monkeypatch, code=f"{standin.CODE}\nCHANGED = 1\n")
    assert changed.current() is None
    engine.images.clear()
    assert packaging.current() is None


def test_a_change_of_code_builds_nothing_of_the_dependencies(
    packaging: TrainingPackaging, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaging.build()
    engine.contexts.clear()
    _packaging(tmp_path, packaging.store, engine, monkeypatch, code=f"{standin.CODE}\nCHANGED = 1\n").build()
    assert [name for names in engine.contexts for name in names if "requirements" in name] == []
    assert len(engine.contexts) == 1


def test_an_image_of_this_context_is_found_and_not_checked_again(
    packaging: TrainingPackaging, engine: Engine, tmp_path: Path
) -> None:
    first = packaging.build()
    (packaging.store.root / "records" / "training-image" / "standin.json").unlink()
    again = packaging.build()
    assert (again.image_id, len(engine.contexts), len(engine.asked)) == (first.image_id, 2, 1)


def test_an_image_that_cannot_train_gets_no_name_and_no_record(packaging: TrainingPackaging, engine: Engine) -> None:
    engine.answer = (1, "ModuleNotFoundError: No module named 'torch'")
    with pytest.raises(VolvoxError, match=r"cannot train; it said: ModuleNotFoundError"):
        packaging.build()
    assert newest(packaging.store, "standin") is None
    assert not [name for name in engine.names if name.startswith("volvox/training-standin")]
    assert len(engine.images) == 1, "that of the dependencies stays"


def test_the_check_runs_as_a_user_that_no_image_knows(packaging: TrainingPackaging, engine: Engine) -> None:
    packaging.build()
    (command, user), uid = engine.asked[0], int(engine.asked[0][1].partition(":")[0])
    assert command == ["python", "-m", "deployments.images.check", "standin"]
    assert uid not in (0, 1000), user


def test_a_pushed_image_is_known_by_its_digest(packaging: TrainingPackaging, engine: Engine) -> None:
    made = packaging.build("registry.example.org/team")
    assert engine.pushed == [f"registry.example.org/team/{made.name}"]
    assert made.reference == "registry.example.org/team/volvox/training-standin@sha256:d1"
    assert packaging.current("registry.example.org/team") == made
    assert packaging.current("registry.example.org") is None, "another place of it"


def test_a_registry_that_refuses_leaves_the_record_as_it_was(
    packaging: TrainingPackaging, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = packaging.build()

    def refuse(image: str, reference: str) -> str:
        raise Unavailable(f"{reference} cannot be pushed")

    monkeypatch.setattr(engine, "push", refuse)
    with pytest.raises(Unavailable, match="cannot be pushed"):
        packaging.build("registry.example.org")
    assert newest(packaging.store, "standin") == made


def test_a_record_of_another_release_counts_as_none(store: Store) -> None:
    store.put_record(training_images.RECORDS, "standin", {"name": "volvox/training-standin:1"})
    assert newest(store, "standin") is None


def test_equal_images_have_one_digest(packaging: TrainingPackaging) -> None:
    made = packaging.build()
    assert isinstance(made, TrainingImage)
    assert made.digest == made.model_copy(update={"seconds": 99.0, "pushed": "x"}).digest

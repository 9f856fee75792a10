from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blocks.engine import ContainerEngine
from tests.training_image import build
from volvox import progress
from volvox.errors import VolvoxError
from volvox.packaging.engine import Engine
from volvox.packaging.training_images import TrainingImage
from volvox.settings import Home
from volvox.store import Store

# Torch is built into an image, which takes minutes: the suite of the pools does the same without torch.
pytestmark = [pytest.mark.docker, pytest.mark.soak]

LIMIT_BYTES = 1_700_000_000
MODULE = Path(__file__).parents[2] / "model_modules" / "image_classifier"
ABSENT = (
    "prefect_docker", "prefect_kubernetes", "prefect_aws", "prefect.server.database", "sqlalchemy", "alembic", "docker",
    "kubernetes_asyncio", "boto3", "flask", "pyarrow", "pip", "pytest",
)  # fmt: skip
# In a container, as a job does it: digits are written, prepared and learned, the model is read back and scored.
TRAINS = """
import asyncio, json, sys
from pathlib import Path
from volvox.data.demo import write_digits
from volvox.data.options import Options
from volvox.modules.calling import call_module
from volvox.settings import Home
from volvox.store import Store
from tasks.data import prepare_data

async def main():
    home = Home.current().ensure()
    store = Store.open(home.store, home.cache)
    digits = write_digits(home.folder("demo"))
    made = await prepare_data.fn(str(digits), store=store, name="digits", sha256="", options=Options())
    output, kept = home.folder("output"), home.folder("kept")
    places = {"data": store.tree(made.learning_tree), "output": output, "checkpoints": kept}
    trained = await call_module("image_classifier", "train", {"epochs": 2}, places=places)
    places = {"data": store.tree(made.held_out_tree), "output": home.folder("scored"), "weights": output}
    scored = await call_module("image_classifier", "evaluate", places=places)
    files = sorted(path.name for path in output.iterdir())
    print(json.dumps({"metrics": trained["metrics"], "images": scored["images"], "files": files}))

asyncio.run(main())
"""
RECOMPILED = """
import os, sys
import prefect.flow_engine, flows.training, torch, pytorch_lightning
def stale(module):
    file, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    if not (isinstance(file, str) and isinstance(cached, str) and file.endswith(".py")):
        return False
    try:
        head = open(cached, "rb").read(12)
    except OSError:
        return True
    written = int.from_bytes(head[8:12], "little")
    return head[4:8] != bytes([1, 0, 0, 0]) and written != int(os.stat(file).st_mtime)
print(sorted(name for name, module in list(sys.modules.items()) if stale(module)))
"""


@pytest.fixture
def engine() -> Engine:
    return Engine("unix:///var/run/docker.sock")


def _ask(engine: Engine, image: TrainingImage, code: str, **options: object) -> str:
    status, said = engine.ask(image.image_id, ["python", "-c", code], threading.Event(), **options)  # type: ignore[arg-type]
    assert status == 0, said
    return said.splitlines()[-1]


def test_it_is_small_and_torch_lies_in_a_layer_of_its_own(training_image: TrainingImage, engine: Engine) -> None:
    assert training_image.bytes < LIMIT_BYTES, training_image.layers
    sizes = [size for _, size in training_image.layers]
    torch, dependencies = (next(n for n, (by, _) in enumerate(training_image.layers) if what in by) for what in
                           ("COPY to /opt/volvox", "pip --python /opt/volvox"))  # fmt: skip
    assert torch > dependencies, "torch lies below what changes more often"
    assert sum(sizes[:dependencies]) < 20_000_000, "a change of code is small"


def test_it_says_what_is_in_it(training_image: TrainingImage, engine: Engine) -> None:
    config = engine.image(training_image.image_id)["Config"]
    assert config["Labels"]["volvox.code"] == training_image.code
    assert config["Labels"]["volvox.context"] == training_image.context_object
    assert config["Labels"]["org.opencontainers.image.revision"] == training_image.code
    assert (config["User"], config["Cmd"]) == ("1000:1000", ["python", "-m", "prefect.engine"])
    assert engine.image(training_image.name)["Id"] == training_image.image_id


def test_what_a_job_never_imports_is_not_in_it(training_image: TrainingImage, engine: Engine) -> None:
    code = (
        "import importlib.util as u\n"
        "def there(name):\n"
        "    try:\n        return u.find_spec(name) is not None\n"
        "    except ModuleNotFoundError:\n        return False\n"
        f"print([name for name in {ABSENT!r} if there(name)])"
    )
    assert _ask(engine, training_image, code) == "[]"


def test_nothing_is_compiled_when_a_job_starts(training_image: TrainingImage, engine: Engine) -> None:
    assert _ask(engine, training_image, RECOMPILED) == "[]"


def test_digits_are_learned_by_a_user_without_a_name_on_a_read_only_disk(
    training_image: TrainingImage, engine: Engine
) -> None:
    told = json.loads(_ask(engine, training_image, TRAINS, user="4711:0"))
    assert told["metrics"]["val_accuracy"] > 0.5
    assert told["images"] > 100
    assert {"model.onnx", "model.safetensors", "model.json"} <= set(told["files"])


def test_the_same_again_is_found_with_and_without_its_record(
    training_image: TrainingImage, engine_block: ContainerEngine, tmp_path: Path
) -> None:
    store, home, kinds = Store.open(str(tmp_path / "store")), Home(tmp_path / "home"), list[str]()
    found = build(store, home, engine_block)
    assert found.image_id == training_image.image_id
    with progress.listening(lambda event: kinds.append(event.kind)):
        assert build(store, home, engine_block) == found
    assert "reused" in kinds


def test_a_change_of_code_makes_one_small_layer_in_seconds(
    training_image: TrainingImage, engine: Engine, engine_block: ContainerEngine, changed_module: Path, tmp_path: Path
) -> None:
    answers = changed_module / "image_classifier" / "answers.py"
    answers.write_text(f"{answers.read_text()}\n\nCHANGED = {time.time()}\n")
    began = time.monotonic()
    rebuilt = build(Store.open(str(tmp_path / "store")), Home(tmp_path / "home"), engine_block)
    seconds = time.monotonic() - began
    try:
        assert rebuilt.dependencies == training_image.dependencies
        assert rebuilt.code != training_image.code
        before, after = (engine.image(image.image_id)["RootFS"]["Layers"] for image in (training_image, rebuilt))
        assert before[:-2] == after[:-2]
        assert seconds < 90, "of which most is the check, on a machine that does other things too"
    finally:
        _forget(engine, rebuilt, training_image)


def test_a_module_that_cannot_be_imported_gets_no_image(
    training_image: TrainingImage, engine: Engine, engine_block: ContainerEngine, changed_module: Path, tmp_path: Path
) -> None:
    (changed_module / "image_classifier" / "api.py").write_text(f"import zzabsent  # {time.time()}\n")
    store, latest = Store.open(str(tmp_path / "store")), f"{training_image.name.partition(':')[0]}:latest"
    before = engine.image(latest)["Id"]
    with pytest.raises(VolvoxError, match=r"(?s)cannot train; it said: .*zzabsent"):
        build(store, Home(tmp_path / "home"), engine_block)
    assert store.keys("training-image") == []
    assert engine.image(latest)["Id"] == before


@pytest.fixture
def engine_block(engine: Engine, training_image: TrainingImage) -> ContainerEngine:
    """The settings that the shared image was built with."""
    base = engine.image(training_image.image_id)["Config"]["Labels"]["org.opencontainers.image.base.name"]
    return ContainerEngine(host=engine.host, base_image=base)


@pytest.fixture
def changed_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the module that is found first and may be changed."""
    module, site = tmp_path / "module", tmp_path / "site"
    shutil.copytree(MODULE, module, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(site), "-e", str(module)], check=True)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(module))
    return module


def _forget(engine: Engine, rebuilt: TrainingImage, training_image: TrainingImage) -> None:
    """Remove what this test built, and have `latest` be the shared image again."""
    repository, _, tag = rebuilt.name.partition(":")
    engine.name(training_image.image_id, repository, ("latest", tag))
    engine._api.remove_image(f"{repository}:{tag}")

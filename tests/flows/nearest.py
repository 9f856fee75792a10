"""A model module that learns in a moment: the mean picture of each class; the nearest one is the answer.

What is proved of the cycle with it - order, kills, gate - does not need a network, and torch takes seconds to import.
"""

from __future__ import annotations

from pathlib import Path

CODE = """
import json, os, time
from pathlib import Path
from PIL import Image
from webargs import fields, validate

def get_metadata():
    return {"name": "nearest"}

def get_train_args():
    return {
        "steps": fields.Int(load_default=1, metadata={"description": "how many steps it pretends to need"}),
        "seed": fields.Int(load_default=0, metadata={"description": "changes nothing but the weights' digest"}),
        "wrong": fields.Bool(load_default=False, metadata={"description": "learn wrong answers"}),
    }

def _pixels(path):
    return list(Image.open(path).convert("L").resize((8, 8)).getdata())

def train(data, output, checkpoints, steps, seed, wrong):
    data, kept = Path(data), Path(checkpoints, "step")
    begin = int(kept.read_text()) if kept.exists() else 0
    with Path(output, "progress.jsonl").open("a") as stream:
        for step in range(begin + 1, steps + 1):
            time.sleep(0.1)
            kept.with_suffix(".new").write_text(str(step))
            kept.with_suffix(".new").replace(kept)
            print(json.dumps({"done": step, "total": steps, "unit": "steps"}), file=stream, flush=True)
    classes = Path(data, "dataset_files", "classes.txt").read_text().splitlines()
    sums = {}
    for line in Path(data, "dataset_files", "train.txt").read_text().splitlines():
        name, label = line.rsplit(" ", 1)
        sums.setdefault(classes[int(label)], []).append(_pixels(data / "images" / name))
    means = {name: [sum(column) / len(column) for column in zip(*rows)] for name, rows in sums.items()}
    if wrong:
        names = sorted(means)
        means = {name: means[names[place - 1]] for place, name in enumerate(names)}
    Path(output, "means.json").write_text(json.dumps({"means": means, "seed": seed}))
    return {"metrics": {"classes": len(means)}, "resumed_from_epoch": begin}

def get_predict_args():
    return {
        "image": fields.Raw(required=True, metadata={"type": "file", "location": "form", "description": "an image"}),
        "top": fields.Int(load_default=5, validate=validate.Range(min=1)),
    }

def predict(image, top):
    means = json.loads(Path(os.environ["VOLVOX_WEIGHTS"], "means.json").read_text())["means"]
    seen = _pixels(image.filename)
    near = {name: 1 / (1 + sum((a - b) ** 2 for a, b in zip(seen, mean))) for name, mean in means.items()}
    ranked = sorted(near.items(), key=lambda item: -item[1])
    total = sum(near.values())
    return {"labels": [name for name, _ in ranked][:top], "probabilities": [value / total for _, value in ranked][:top]}
"""

# The same, trained in several processes: all of them are started, the first one writes.
TOGETHER = (
    CODE.replace('"nearest"', '"together"')
    + """
distributed = True
_alone = train

def train(data, output, checkpoints, steps, seed, wrong):
    world = int(os.environ.get("WORLD_SIZE", "1"))
    learned = _alone(data, output, checkpoints, steps, seed, wrong) if os.environ.get("RANK", "0") == "0" else {}
    return {**learned, "metrics": {**learned.get("metrics", {}), "world": world}}
"""
)


def install(site: Path, name: str = "nearest", code: str = CODE, metadata: str = "") -> None:
    """Write the module, or another one, as pip would have installed it below `site`."""
    package, info = site / f"{name}_package", site / f"{name}-1.0.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "api.py").write_text(code)
    if metadata:
        (package / "metadata.yaml").write_text(metadata)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: marshmallow\nRequires-Dist: webargs\n"
    )
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "entry_points.txt").write_text(f"[deepaas.v2.model]\n{name} = {name}_package.api\n")
    files = [path for folder in (package, info) for path in folder.iterdir()]
    (info / "RECORD").write_text("".join(f"{path.relative_to(site)},,\n" for path in files))

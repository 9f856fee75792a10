"""A module written for DEEPaaS, which has never heard of this platform, goes through the whole cycle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.flows.conftest import Installation

pytestmark = pytest.mark.cycle

# As DEEPaaS' own documentation writes them: fields by keyword, a file field, labels and probabilities; no evaluate(),
# no idea of places, an UploadedFile from DEEPaaS' wrapper.
LEGACY = """
from deepaas.model.v2.wrapper import UploadedFile
from webargs import fields, validate

def get_metadata():
    return {"name": "legacy", "author": "somebody", "license": "MIT", "description": "dark or light"}

def get_train_args():
    return {"epochs": fields.Int(load_default=1, metadata={"description": "passes over the data"})}

def train(**kwargs):
    return {"metrics": {"loss": 1.0 / (1 + kwargs["epochs"])}}

def get_predict_args():
    return {
        "data": fields.Raw(required=True, metadata={"type": "file", "location": "form", "description": "an image"}),
        "accept": fields.Str(load_default="application/json", validate=validate.OneOf(["application/json"])),
    }

def predict(**kwargs):
    assert isinstance(kwargs["data"], UploadedFile) or kwargs["data"].filename
    from PIL import Image
    pixels = list(Image.open(kwargs["data"].filename).convert("L").getdata())
    light = sum(pixels) / len(pixels) / 255
    ranked = sorted({"dark": 1 - light, "light": light}.items(), key=lambda item: -item[1])
    return {"labels": [name for name, _ in ranked], "probabilities": [value for _, value in ranked]}
"""


@pytest.fixture
def legacy(install_module, tmp_path: Path) -> Iterator[Installation]:
    install_module("legacy", LEGACY, metadata="title: Dark or light\n")
    made = Installation(tmp_path / "home", {"PYTHONPATH": os.environ["PYTHONPATH"]})
    yield made
    made.run("down", check=False)


def test_an_unmodified_deepaas_module_goes_through_the_whole_cycle(legacy: Installation, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for label, base in (("dark", 20), ("light", 200)):
        (images / label).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (8, 8), base + number).save(images / label / f"{number}.png")
    words = ("cycle", str(images), "--name", "shade", "--module", "legacy", "--no-image", "--epochs", "3")
    first = legacy.json(*words)
    assert first["evaluation"]["metrics"]["accuracy"] == 1.0, "it is scored through its predict()"
    assert first["model"]["metrics"] == {"loss": 0.25}
    assert first["version"]["champion"]
    with (images / "light" / "3.png").open("rb") as image:
        answer = httpx.post(first["service"]["predict_url"], files={"data": image}, timeout=30).json()
    assert answer["status"] == "OK", "a module without a schema is answered for as DEEPaaS answers"
    assert answer["predictions"]["labels"][0] == "light"
    assert httpx.get(first["links"]["catalogue"], follow_redirects=True).status_code == 200
    second = legacy.json(*words)
    assert all(stage["reused"] for stage in second["stages"])

"""A module written for DEEPaaS, which has never heard of this platform, goes through the whole cycle."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.flows.conftest import Installation

pytestmark = pytest.mark.cycle


def test_an_unmodified_deepaas_module_goes_through_the_whole_cycle(installation: Installation, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for label, base in (("dark", 20), ("light", 200)):
        (images / label).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (8, 8), base + number).save(images / label / f"{number}.png")
    words = ("cycle", str(images), "--name", "shade", "--module", "legacy", "--no-image", "--epochs", "3")
    first = installation.json(*words)
    assert first["evaluation"]["metrics"]["accuracy"] == 1.0, "it is scored through its predict()"
    assert first["model"]["metrics"] == {"loss": 0.25}
    assert first["version"]["champion"]
    with (images / "light" / "3.png").open("rb") as image:
        answer = httpx.post(first["service"]["predict_url"], files={"data": image}, timeout=30).json()
    assert answer["status"] == "OK", "a module without a schema is answered for as DEEPaaS answers"
    assert answer["predictions"]["labels"][0] == "light"
    assert httpx.get(first["links"]["catalogue"], follow_redirects=True).status_code == 200
    second = installation.json(*words)
    assert all(stage["reused"] for stage in second["stages"])

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blocks.store import ObjectStore
from flows.publication import publication
from tasks.publication import publish_model
from tests.volvox.packaging import standin
from volvox.records import Image
from volvox.settings import Home
from volvox.store import FolderStore


def test_the_stage_publishes_in_the_home_of_this_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.publication.publish_model", publish_model.fn)  # outside a flow run there is no server
    made = standin.cycle_until_packaging(tmp_path, FolderStore(tmp_path / "store"), monkeypatch)
    image = Image(
        name="volvox/brightness:1", version=made.version.digest, context_object="", built=False, reason="none"
    )
    store = ObjectStore(address=str(tmp_path / "store"))
    entry = asyncio.run(publication.fn(made.version, made.model, made.evaluation, made.dataset, image, store=store))
    assert (Home.current().root / entry.path.strip("/") / "index.html").is_file()

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blocks.engine import ContainerEngine
from blocks.store import ObjectStore
from flows.packaging import packaging
from tasks.packaging import package_model
from tests.volvox.packaging import standin
from volvox.store import FolderStore


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> standin.Made:
    return standin.cycle_until_packaging(tmp_path, FolderStore(tmp_path / "store"), monkeypatch)


def test_the_stage_keeps_its_result_in_the_store_that_it_is_given(
    made: standin.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.packaging.package_model", package_model.fn)  # outside a flow run there is no server
    store, engine = ObjectStore(address=str(tmp_path / "store")), ContainerEngine(host="unix:///absent.sock")
    image = asyncio.run(
        packaging.fn(made.version, made.evaluation, made.dataset, store=store, engine=engine, build=False)
    )
    assert not image.built
    assert store.open().has(image.context_object)

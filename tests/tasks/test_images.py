from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blocks.engine import ContainerEngine
from tasks.images import build_training_image
from volvox.errors import InvalidInput, Unavailable, UnknownModule
from volvox.settings import Home
from volvox.store import Store


def _build(store: Store, home: Home, module: str = "image_classifier", push: bool = False, **settings: str) -> None:
    engine = ContainerEngine(host="unix:///absent.sock", **settings)  # pyright: ignore[reportArgumentType]
    asyncio.run(build_training_image.fn(module, store=store, home=home, engine=engine, push=push))


def test_without_an_engine_it_says_so_and_what_to_do(store: Store, home: Home) -> None:
    with pytest.raises(Unavailable, match=r"no training image can be built: .*start an engine"):
        _build(store, home)


def test_a_push_without_a_registry_is_refused_before_anything_is_built(store: Store, home: Home) -> None:
    with pytest.raises(InvalidInput, match="set VOLVOX_REGISTRY"):
        _build(store, home, push=True)


def test_a_module_that_is_not_installed_is_told(store: Store, home: Home) -> None:
    with pytest.raises(UnknownModule, match="no model module 'zzz'"):
        _build(store, home, module="zzz")
    assert list(Path(store.root).rglob("*.json")) == []

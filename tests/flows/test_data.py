"""The flow of the data stage."""

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.exceptions import ParameterTypeError
from prefect.testing.utilities import prefect_test_harness

from blocks.store import ObjectStore
from flows.data import data
from tests.volvox.data.conftest import write_image
from volvox.errors import InvalidInput, Unavailable
from volvox.records import Dataset


@pytest.fixture
def folder(tmp_path) -> Path:
    for start, label in enumerate(("cat", "dog")):
        for number in range(20):
            write_image(tmp_path / "My Pets" / label / f"{number:02}.png", start * 1000 + number)
    return tmp_path / "My Pets"


@pytest.fixture(scope="module", autouse=True)
def prefect_server(tmp_path_factory) -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_the_stage_is_a_flow_run_of_its_own_or_part_of_another(home, folder) -> None:
    made = asyncio.run(data(str(folder), store=ObjectStore.local()))
    assert made.name == "my-pets"
    assert made.counts == {"train": (14, 14), "val": (3, 3), "test": (3, 3)}

    @flow
    async def another() -> Dataset:
        return await data.fn(str(folder))

    assert asyncio.run(another()) == made


def test_the_name_of_a_run_tells_no_secret(home) -> None:
    from prefect.client.orchestration import get_client

    with pytest.raises(Unavailable):
        asyncio.run(data("http://127.0.0.1:9/My%20Pets.zip?token=secret"))
    with get_client(sync_client=True) as client:
        names = [run.name for run in client.read_flow_runs()]
    assert any(name.startswith("data-my") for name in names)
    assert not any("secret" in name for name in names)


def test_every_option_reaches_the_split(home, folder) -> None:
    made = asyncio.run(data(str(folder), fractions=(0.5, 0.25, 0.25), name="pets"))
    assert (made.name, made.counts) == ("pets", {"train": (10, 10), "val": (5, 5), "test": (5, 5)})
    assert asyncio.run(data(str(folder), seed=3)).digest != asyncio.run(data(str(folder))).digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "species"}, "there is no labels"),
        ({"time_column": "when"}, "no column 'when'"),
        ({"group_column": "who"}, "no column 'who'"),
        ({"fractions": (0.5, 0.5, 0.5)}, "must add up to 1"),
        ({"sha256": "1" * 64}, "sums are those of archives"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(home, folder, options, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        asyncio.run(data(str(folder), **options))


def test_a_value_that_the_form_in_prefect_refuses_is_refused_here_too(home, folder) -> None:
    with pytest.raises(ParameterTypeError, match="time_gap_seconds: Input should be greater than or equal to 0"):
        asyncio.run(data(str(folder), time_gap_seconds=-1))


def test_every_parameter_is_explained() -> None:
    explained = inspect.getdoc(data.fn) or ""
    assert all(f"{name}:" in explained for name in inspect.signature(data.fn).parameters)

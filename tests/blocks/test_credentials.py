"""Saved blocks in the words of a place; how a block is loaded is Prefect's business."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect_aws import AwsCredentials, MinIOCredentials
from pydantic import SecretStr

from blocks.credentials import held
from volvox.errors import InvalidInput, NotFound, Unavailable

KEYS = {"access_key": "key", "secret_key": "hush"}


def saved(monkeypatch: pytest.MonkeyPatch, block: Any) -> list[str]:
    asked: list[str] = []

    def load(slug: str, **_: Any) -> Any:
        asked.append(slug)
        if isinstance(block, Exception):
            raise block
        return block

    monkeypatch.setattr(Block, "load", load)
    return asked


@pytest.mark.parametrize(
    ("block", "more"),
    [
        (Secret[Any](value={**KEYS, "endpoint": "http://ceph:7480"}), {"endpoint": "http://ceph:7480"}),  # pyright: ignore[reportArgumentType]
        (Secret[Any](value='{"access_key": "key", "secret_key": "hush"}'), {}),  # pyright: ignore[reportArgumentType]
        (
            AwsCredentials(
                aws_access_key_id="key",
                aws_secret_access_key=SecretStr("hush"),
                region_name="eu-central-1",
                aws_client_parameters={"endpoint_url": "http://ceph:7480"},  # pyright: ignore[reportArgumentType]
            ),
            {"endpoint": "http://ceph:7480", "region": "eu-central-1"},
        ),
        (MinIOCredentials(minio_root_user="key", minio_root_password=SecretStr("hush")), {}),
    ],
)
def test_a_block_is_told_in_the_words_of_a_place(
    monkeypatch: pytest.MonkeyPatch, block: Any, more: dict[str, str]
) -> None:
    asked = saved(monkeypatch, block)
    told = held("lake")
    assert {name: told.get(name) for name in (*KEYS, *more)} == {**KEYS, **more}
    assert asked == ["secret/lake"]
    held("aws-credentials/lake")
    assert asked[-1] == "aws-credentials/lake"


@pytest.mark.parametrize(
    ("block", "kind", "said"),
    [
        (ValueError("Unable to find block document"), NotFound, "there is no block secret/lake"),
        (httpx.ConnectError("refused"), Unavailable, "does not answer"),
        (Secret[Any](value="just a text"), InvalidInput, "holds no credentials"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_holds_no_credentials_is_refused(
    monkeypatch: pytest.MonkeyPatch, block: Any, kind: type[Exception], said: str
) -> None:
    saved(monkeypatch, block)
    with pytest.raises(kind, match=said):
        held("lake")

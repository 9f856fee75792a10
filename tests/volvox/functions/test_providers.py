from __future__ import annotations

from pathlib import Path

import pytest

from tests.volvox.functions.made_up import SCAR, defined
from volvox.errors import InvalidInput
from volvox.functions.providers import given
from volvox.places import open_place

STORAGE = """
storage_providers:
  webdav: {dcache: {hostname: dcache.org, login: ann, password: hunter2}}
  onedata: {lab: {oneprovider_host: op.org, space: lab, token: hunter2}}
  minio: {lab: {endpoint: "https://minio.lab:9000", verify: "false", access_key: a, secret_key: hunter2, colour: red}}
"""
SERVICE = (
    "functions: {oscar: [{site: {name: n, image: i, input: [{storage_provider: webdav.dcache, path: in}, "
    "{storage_provider: minio.lab, path: in}], output: [{storage_provider: onedata.lab, path: out}]}}]}"
)


def test_places_are_opened_with_what_the_file_says(tmp_path: Path) -> None:
    [function] = defined(tmp_path, SERVICE + STORAGE).functions
    assert "hunter2" not in function.model_dump_json()
    assert given(function, "minio.lab") == {
        "endpoint": "https://minio.lab:9000", "verify": False, "access_key": "a", "secret_key": "hunter2",
    }  # fmt: skip
    for place in (*function.inputs, *function.outputs):
        opened = open_place(place.url, given(function, place.provider))
        assert opened.url in ("webdavs://dcache.org", "s3://n", "onedata://op.org/lab")


def test_what_nothing_describes_is_the_environments(tmp_path: Path) -> None:
    [function] = defined(tmp_path, SCAR).functions
    assert given(function, "s3.default") == {}
    assert given(function, "") == {}
    assert given(function, "s3.archive") == {"access_key": "AKIAHUNTER", "secret_key": "hunter2", "region": "eu-west-1"}


def test_a_block_is_asked_by_whoever_can(tmp_path: Path) -> None:
    text = "name: a\nimage: x\nplaces: {in: {url: s3://one/in, provider: minio.lab}}\n"
    text += "providers: {minio.lab: {endpoint: 'http://lab', credentials: 'block:lab'}}"
    [function] = defined(tmp_path, text).functions
    with pytest.raises(InvalidInput, match="is block:lab, which cannot be asked here"):
        given(function, "minio.lab")
    assert given(function, "minio.lab", lambda name: {"access_key": name}) == {
        "endpoint": "http://lab",
        "access_key": "lab",
    }

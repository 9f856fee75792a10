from __future__ import annotations

from pathlib import Path

import pytest

from tests.volvox.functions.made_up import OSCAR, SCAR, defined, written
from volvox.errors import InvalidInput, NotFound
from volvox.functions.secrecy import credentials, names_secret, resolved, secret


def test_no_secret_of_a_file_is_kept_or_told(tmp_path: Path) -> None:
    for text in (SCAR, OSCAR):
        found = defined(tmp_path, text)
        kept = "".join(function.model_dump_json() for function in found.functions)
        assert "hunter2" not in kept + "".join(found.warnings)
        assert "AKIAHUNTER" not in kept + "".join(found.warnings)


def test_credentials_are_read_again_at_need(tmp_path: Path) -> None:
    [function] = defined(tmp_path, SCAR).functions
    reference = function.providers["s3.archive"]
    assert credentials(reference) == {"access_key": "AKIAHUNTER", "secret_key": "hunter2", "region": "eu-west-1"}
    written(tmp_path, SCAR.replace("hunter2", "changed"))
    assert credentials(reference)["secret_key"] == "changed"
    written(tmp_path, SCAR.replace("archive", "other"))
    with pytest.raises(NotFound, match=r"no longer has storage_providers.s3.archive"):
        credentials(reference)
    (tmp_path / "functions.yaml").unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        credentials(reference)
    with pytest.raises(InvalidInput, match="file:PATH#KEY or block:NAME"):
        credentials("hunter")


def test_variables_that_are_secret_are_read_again_at_need(tmp_path: Path) -> None:
    text = OSCAR.replace(
        "LIMIT: 5", "LIMIT: 5\n          HF_TOKEN: [hunter2]\n          API.KEY: '{{ prefect.blocks.secret.k }}'"
    )
    [function] = defined(tmp_path, text).functions
    assert "hunter2" not in function.model_dump_json()
    assert resolved(function.environment) == {
        "LIMIT": "5", "LOGIN": "hunter2", "HF_TOKEN": "[hunter2]", "API.KEY": "{{ prefect.blocks.secret.k }}",
    }  # fmt: skip


def test_names_and_keys_with_dots_and_hashes_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "a#b.c"
    [function] = defined(folder, SCAR.replace("archive", "ar.chive#1")).functions
    assert credentials(function.providers["s3.ar.chive#1"])["secret_key"] == "hunter2"


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", True),
        ("DB_PASSWORD", True),
        ("token", True),
        ("API_KEY", True),
        ("Authorization", True),
        ("AWS_ACCESS_KEY_ID", False),
        ("KEY1", False),
        ("TOKEN_FILE", False),
        ("MONKEY", False),
        ("BYPASS", False),
        ("image_pull_secrets", False),
        ("token_endpoint", False),
    ],
)
def test_names_of_secrets_are_known(name: str, is_secret: bool) -> None:
    assert names_secret(name) is is_secret


def test_any_other_text_is_itself() -> None:
    assert secret("{{ prefect.blocks.secret.x }}") == "{{ prefect.blocks.secret.x }}"
    assert secret("plain") == "plain"

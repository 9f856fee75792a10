from __future__ import annotations

import pytest
from pydantic import ValidationError

from volvox.pools.definition import Offers, PoolDefinition


def pool(**told: object) -> PoolDefinition:
    return PoolDefinition.model_validate({"name": "docker", "type": "docker", **told})


def test_what_is_not_stated_is_open() -> None:
    assert pool().offers == Offers()
    assert pool().offers.gpus is None
    assert pool().enabled
    assert pool().starts_containers
    assert not pool(type="process").starts_containers


def test_variables_are_text_whatever_yaml_made_of_them() -> None:
    assert pool(environment={"OMP_NUM_THREADS": 2, "SHARE": 0.5}).environment == {
        "OMP_NUM_THREADS": "2",
        "SHARE": "0.5",
    }


def test_a_truth_value_among_the_variables_is_refused_because_its_spelling_is_lost() -> None:
    with pytest.raises(ValidationError, match="put the value in quotes"):
        pool(environment={"DEBUG": True})


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "PREFECT_API_KEY"])
def test_a_secret_stands_nowhere_in_plain_text(name: str) -> None:
    with pytest.raises(ValidationError, match="stored in plain text") as caught:
        pool(environment={name: "hunter2"})
    assert "hunter2" not in str(caught.value.errors()[0]["msg"])
    assert pool(environment={name: "{{ prefect.blocks.secret.mine }}"}).environment[name]


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "TOKEN_FILE", "OMP_NUM_THREADS", "SECRET_ARN"])
def test_what_only_sounds_like_a_secret_is_taken(name: str) -> None:
    assert pool(environment={name: "/run/secrets/x"}).environment


@pytest.mark.parametrize("volume", ["/data:/data", "/data:/data:ro", "claim:/data", "fs-1:/data:rw"])
def test_a_volume_has_a_source_and_a_target(volume: str) -> None:
    assert pool(volumes=[volume]).volumes == (volume,)


@pytest.mark.parametrize("volume", ["/data", "/data:data", "/data:/data:x", ""])
def test_anything_else_is_no_volume(volume: str) -> None:
    with pytest.raises(ValidationError, match="source:/target"):
        pool(volumes=[volume])


@pytest.mark.parametrize("name", ["Docker", "-x", "x-", "", "a" * 64, "a_b"])
def test_a_name_that_kubernetes_or_a_file_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        pool(name=name)

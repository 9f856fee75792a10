from __future__ import annotations

from pathlib import Path

import pytest

from deployments.checks.docker import capacity, refused
from tests.deployments.checks.conftest import define, made, up
from volvox.pools.definition import Offers
from volvox.settings import Home

INFO = {"MemTotal": 8 * 2**30, "NCPU": 4, "Runtimes": {"runc": {}}}


def test_an_engine_that_is_large_enough_is_and_a_smaller_one_is_not() -> None:
    assert [check.ok for check in capacity(INFO, Offers(cpu=4, memory_mb=8192, gpus=0))] == [True]
    [check] = capacity(INFO, Offers(cpu=8, memory_mb=16000))
    assert check.ok is False
    assert "16000 MB of 8192 and 8 CPU of 4" in check.said


def test_a_gpu_needs_nvidias_runtime() -> None:
    assert [check.ok for check in capacity(INFO, Offers(gpus=1))] == [True, False]
    assert [check.ok for check in capacity({**INFO, "Runtimes": {"nvidia": {}}}, Offers(gpus=1))] == [True, True]
    cdi = {**INFO, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}
    assert [check.ok for check in capacity(cdi, Offers(gpus=1))] == [True, True]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", "neither the engine nor"),
        ("manifest for x:1 not found: manifest unknown", "neither the engine nor"),
        ("unauthorized: authentication required", "refuses the credentials"),
        ("Get https://r/v2/: no basic auth credentials", "refuses the credentials"),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", "cannot be asked"),
    ],
)
def test_what_a_registry_says_is_told_apart(said: str, word: str) -> None:
    assert word in refused("x", said).said


def test_an_engine_that_is_not_there_ends_the_row(
    home: Home, no_services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    define(home, "docker", "{type: docker, image: x}")
    found = made("docker", home)
    assert found["engine"].ok is False
    assert "absent.sock" in found["engine"].said
    assert "image" not in found


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    up("docker", monkeypatch)


def left() -> list[str]:
    import docker

    client = docker.from_env()
    try:
        return [one.name for one in client.containers.list(all=True, filters={"label": "volvox.check"})]
    finally:
        client.close()


@pytest.mark.docker
class TestEngine:
    @pytest.fixture
    def image(self, engine, request: pytest.FixtureRequest) -> str:
        return request.getfixturevalue("probe_image")

    def test_all_is_well_and_no_container_is_left(self, home: Home, image: str, services: str) -> None:
        define(home, "docker", f"{{type: docker, image: '{image}', job_variables: {{network_mode: host}}}}")
        found = made("docker", home)
        assert {name: check.said for name, check in found.items() if check.ok is not True} == {}
        assert {"from inside: prefect", "from inside: mlflow", "from inside: store"} <= set(found)
        assert left() == []

    def test_what_a_container_does_not_reach_is_told_with_what_mends_it(
        self, home: Home, image: str, services: str
    ) -> None:
        absent = home.root / "nowhere"  # the engine makes the folder that it is to mount
        define(home, "docker", f"{{type: docker, image: '{image}', job_variables: {{network_mode: none}}, "
                               f"environment: {{VOLVOX_STORE: {absent}}}}}")  # fmt: skip
        found = made("docker", home)
        assert found["from inside: prefect"].ok is False
        assert found["from inside: mlflow"].ok is False
        assert "cannot be reached from the job" in found["from inside: mlflow"].said
        assert left() == []

    def test_an_image_that_is_nowhere_is_told_and_no_job_is_started(self, home: Home, engine, services: str) -> None:
        define(home, "docker", "{type: docker, image: '127.0.0.1:5000/volvox/absent:1'}")
        found = made("docker", home)
        assert found["image"].ok is False
        assert "probe" not in found

    def test_an_image_without_volvox_is_told(self, home: Home, engine, services: str) -> None:
        define(home, "docker", "{type: docker, image: 'engines/python:3.11', job_variables: {network_mode: host}}")
        check = made("docker", home)["probe"]
        assert check.ok is False
        assert "make images" in check.mend
        assert left() == []

    def test_a_gpu_that_is_not_there_is_told(self, home: Home, image: str, services: str) -> None:
        define(home, "docker", f"{{type: docker, image: '{image}', offers: {{gpus: 1}}}}")
        found = made("docker", home, probe=False)
        assert found["gpu"].ok is False
        assert "NVIDIA's container toolkit" in found["gpu"].mend

    def test_without_a_probe_no_container_is_started(self, home: Home, image: str, services: str) -> None:
        define(home, "docker", f"{{type: docker, image: '{image}'}}")
        assert not any(name.startswith("from inside") for name in made("docker", home, probe=False))

from __future__ import annotations

from pathlib import Path

import pytest

from volvox.errors import InvalidInput, NotFound
from volvox.pools.files import SHIPPED, disable, enable, known_pool, read_pool, read_pools
from volvox.settings import Home


@pytest.fixture
def folder(home: Home) -> Path:
    return home.folder("pools")


def refused(folder: Path, text: str, name: str = "mine") -> str:
    """What is said of a file with this text."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_pool(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_the_shipped_pools_are_one_of_each_kind_and_only_the_local_one_is_on(home: Home) -> None:
    found = read_pools(home)
    assert {name: (pool.type, pool.enabled) for name, pool in found.items()} == {
        "docker": ("docker", False), "ecs": ("ecs", False), "kubernetes": ("kubernetes", False),
        "local": ("process", True),
    }  # fmt: skip
    assert not any(pool.image for pool in found.values()), "each module has a training image of its own"
    assert all(pool.startup_seconds > 0 for pool in found.values())


def test_a_file_of_the_home_goes_first(home: Home, folder: Path) -> None:
    (folder / "local.yaml").write_text("{name: local, type: process, concurrency_limit: 7}")
    (folder / "gpu-box.yaml").write_text("{type: docker, offers: {gpus: 1}}")
    found = read_pools(home)
    assert found["local"].concurrency_limit == 7
    assert found["gpu-box"].name == "gpu-box"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type: docker\nconcurency_limit: 2\n",
         ":2: there is no key 'concurency_limit', did you mean 'concurrency_limit'?; allowed are name, type, "),
        ("type: docker\noffers: {gpus: 2}\ngpus_total: 1\n", ":3: gpus_total: it is 1, and offers.gpus promises 2"),
        ("type: docker\noffers:\n  cpu: 2\n  gpu: 1\n", ":4: there is no key 'offers.gpu', did you mean 'gpus'?"),
        ("type: dokcer\n", ":1: type is 'dokcer', did you mean 'docker'?; allowed are process, docker, "),
        ("type: docker\n\ncost_per_hour: -1\n", ":3: cost_per_hour is -1; it must be at least 0"),
        ("type: docker\noffers: {cpu: 0}\n", ":2: offers.cpu is 0; it must be more than 0"),
        ("type: docker\noffers: {memory_mb: plenty}\n", ":2: offers.memory_mb is 'plenty'; input should be a"),
        ("type: docker\nenvironment: {HF_TOKEN: abc}\n", ":2: environment: HF_TOKEN looks like a secret"),
        ("description: x\n", ": 'type' is missing"),
        ("type: docker\nname: other\n", ":2: the file of pool 'other' must be named other.yaml"),
        ("type: [docker\nname: x\n", ":2: not YAML: "),
        ("- docker\n", ": a pool's file holds keys and values; name, type"),
        ("", ": a pool's file holds keys and values"),
        ("type: docker\nvolumes: [/data]\n", ":2: volumes: '/data' is not `source:/target`"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_line_key_and_what_is_allowed(folder: Path, text: str, said: str) -> None:
    assert refused(folder, text).startswith(said)


def test_every_mistake_of_a_file_is_told_at_once(folder: Path) -> None:
    said = refused(folder, "type: docker\ncost: 1\ncost_per_hour: -1\n")
    assert "'cost'" in said
    assert "cost_per_hour is -1" in said


def test_the_secret_itself_is_not_told(folder: Path) -> None:
    assert "hunter2" not in refused(folder, "type: docker\nenvironment: {HF_TOKEN: hunter2}\n")


def test_no_file_may_take_the_name_of_this_process(folder: Path) -> None:
    assert "needs no file" in refused(folder, "type: process\n", name="here")


def test_an_unknown_pool_is_told_with_the_nearest(home: Home) -> None:
    with pytest.raises(NotFound, match="there is no pool 'dcoker', did you mean 'docker'"):
        known_pool("dcoker", read_pools(home))
    for change in (enable, disable):
        with pytest.raises(NotFound, match="did you mean 'docker'"):
            change(home, "dcoker")
    assert not (home.root / "pools").exists()


def test_a_pool_is_switched_on_with_its_comments_and_switched_off_again(home: Home) -> None:
    change = enable(home, "docker", {"offers.gpus": 1, "job_variables.mem_limit": "4g"})
    assert change.changed
    assert change.path == home.root / "pools" / "docker.yaml"
    text = change.path.read_text()
    assert text == change.text
    assert text.count("#") == (SHIPPED / "docker.yaml").read_text().count("#")
    pool = read_pools(home)["docker"]
    assert pool.enabled
    assert pool.offers.gpus == 1
    assert pool.job_variables["mem_limit"] == "4g"
    disable(home, "docker")
    off = read_pools(home)["docker"]
    assert not off.enabled
    assert off.offers.gpus == 1, "what the operator said stays for the next time"


def test_a_second_time_nothing_changes(home: Home) -> None:
    enable(home, "docker", {"offers.gpus": 1})
    path = home.root / "pools" / "docker.yaml"
    before = path.stat()
    assert not enable(home, "docker", {"offers.gpus": 1}).changed
    assert not enable(home, "docker").changed
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert disable(home, "docker").changed
    assert not disable(home, "docker").changed


def test_what_is_so_already_writes_no_file(home: Home) -> None:
    assert not enable(home, "local").changed
    assert not disable(home, "ecs").changed
    assert not (home.root / "pools").exists()


def test_a_dry_run_writes_nothing(home: Home) -> None:
    assert enable(home, "docker", dry_run=True).changed
    assert not (home.root / "pools").exists()


@pytest.mark.parametrize("changes", [{"ofers.gpus": 1}, {"cost_per_hour": -1}, {"type": "lambda"}, {"name": "other"}])
def test_a_wrong_change_leaves_the_file_as_it_was(home: Home, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        enable(home, "docker", changes)
    assert not (home.root / "pools").exists()


def test_a_second_pool_of_a_kind_begins_as_a_copy(home: Home) -> None:
    change = enable(home, "kubernetes-gpu", {"offers.gpus": 1}, like="kubernetes")
    assert change.changed
    found = read_pools(home)
    assert found["kubernetes-gpu"].type == "kubernetes"
    assert not found["kubernetes"].enabled
    assert not enable(home, "kubernetes-gpu", {"offers.gpus": 1}, like="kubernetes").changed
    with pytest.raises(InvalidInput, match="cannot name a pool"):
        enable(home, "Here", like="kubernetes")

"""A large drop in buckets that ask for signatures, answered on a pool of containers: keys are in blocks alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml
from botocore.config import Config
from pydantic import SecretStr

from blocks.store import ObjectStore
from tests import training_image
from tests.deployments.pools.conftest import processes_of_runs
from tests.engines import engine_environment
from tests.flows import nearest
from tests.flows.conftest import Installation
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import ENDED, Inbox, Job, open_inbox
from volvox.records import ModelVersion, Verdict
from volvox.settings import Home

# As the other tests of these pools; on the local one and on Docker large drops are answered in CI, from folders.
pytestmark = [pytest.mark.cycle, pytest.mark.ceph, pytest.mark.docker, pytest.mark.soak, pytest.mark.timeout(900)]
KINDS = [pytest.param("kubernetes", marks=pytest.mark.k8s), pytest.param("ecs", marks=pytest.mark.aws)]
ENGINES = {"kubernetes": ["docker", "k8s", "ceph"], "ecs": ["docker", "aws", "ceph"]}

SCALES = """
import os, time
from pathlib import Path
from webargs import fields

def get_metadata():
    return {"name": "scales"}

def get_predict_args():
    return {"file": fields.Raw(required=True, metadata={"type": "file", "location": "form"})}

def predict(file):
    said = Path(file.filename).read_text()
    if said == "broken":
        raise ValueError("it cannot be weighed")
    time.sleep(float(Path(os.environ["VOLVOX_WEIGHTS"], "seconds").read_text()))
    keys = [name for name, value in os.environ.items() if "alice" in value]
    return {"bytes": len(said), "keys": keys, "run": os.environ.get("PREFECT__FLOW_RUN_ID", "")}
"""

# Saves blocks at the Prefect server of VOLVOX_HOME, which is started; what they hold comes by standard input.
SAVING = """
import json, os, sys
from volvox.settings import Home
from volvox.stack import stack

home = Home.current().ensure()
stack.ensure(home, ["prefect"])
stack.wait_ready(home, "prefect")
os.environ.update(stack.environment(home))
from prefect.blocks.system import Secret
from blocks.store import ObjectStore

told = json.load(sys.stdin)
ObjectStore.model_validate(told["store"]).save("shared", overwrite=True, _sync=True)
Secret(value=json.dumps(told["lake"])).save("lake", overwrite=True, _sync=True)
"""


@dataclass
class Lake:
    """An installation with a pool of one kind, and a bucket.

    Attributes:
        installation: The command line on it.
        client: Asks the bucket's server.
        bucket: Where files and answers lie, and the store.
        store: What its block holds.
        place: URL of the bucket as a place.
        pool: The pool's name and kind.
        inbox: Of its home.
    """

    installation: Installation
    client: Any
    bucket: str
    store: dict[str, str]
    place: str
    pool: str
    inbox: Inbox

    def drop(self, name: str, count: int, tmp_path: Path, *, broken: int = 0, seconds: float = 0.0) -> Drop:
        """So many files lie there when the function that is to answer them is applied."""
        publish(self.store, name, tmp_path / "weights", seconds)
        for number in range(count):
            self.client.put_object(Bucket=self.bucket, Key=f"{name}/in/ann/{number:03}.txt", Body=b"x" * number)
        for number in range(broken):
            self.client.put_object(Bucket=self.bucket, Key=f"{name}/in/broken-{number}.txt", Body=b"broken")
        home = Home(self.installation.home)
        registry.apply(home, function(name, self.pool, f"{self.place}/{name}"))
        self.installation.run("up")
        return Drop(self, name)


@dataclass
class Drop:
    """A function whose places are folders of the bucket, and what became of the files there."""

    lake: Lake
    name: str

    def jobs(self) -> list[Job]:
        return self.lake.inbox.jobs(function=self.name, limit=1000)

    def done(self) -> int:
        return sum(job.state in ENDED for job in self.jobs())

    def answers(self) -> dict[str, Any]:
        """What lies in the output folder, by name."""
        return {name: self._read(f"{self.name}/out/{name}") for name in self.written()}

    def written(self) -> dict[str, Any]:
        """When each answer was written, by name."""
        prefix = f"{self.name}/out/"
        found = self.lake.client.list_objects_v2(Bucket=self.lake.bucket, Prefix=prefix).get("Contents", [])
        return {one["Key"].removeprefix(prefix): one["LastModified"] for one in found}

    def _read(self, key: str) -> Any:
        return json.loads(self.lake.client.get_object(Bucket=self.lake.bucket, Key=key)["Body"].read())

    def runs(self) -> list[dict[str, Any]]:
        """The flow runs that answered files of this function, in the order in which they were made."""
        told = json.loads((self.lake.installation.home / "stack" / "prefect.json").read_text())
        asked = {"flows": {"name": {"any_": ["batch-inference"]}}}
        found = httpx.post(f"{told['url']}/api/flow_runs/filter", json=asked, timeout=60).raise_for_status().json()
        mine = [run for run in found if run["parameters"]["function"] == self.name]
        return sorted(mine, key=lambda run: run["created"])

    def said(self) -> Any:
        """What is shown if it does not go on."""
        return [(job.key, job.state, job.reason) for job in self.jobs()][:5], self.runs()


def until(what: Callable[[], Any], seconds: float, said: Callable[[], Any] = lambda: "") -> Any:
    deadline = time.monotonic() + seconds
    while not (told := what()):
        assert time.monotonic() < deadline, said()
        time.sleep(0.2)
    return told


def pool_file(kind: str, image: str) -> dict[str, Any]:
    variables: dict[str, Any] = {"host_network": True, "namespace": "default"}
    if kind == "ecs":
        cluster = f"volvox-{uuid.uuid4().hex[:8]}"
        boto3.client("ecs").create_cluster(clusterName=cluster)
        variables = {"cluster": cluster, "launch_type": "FARGATE"}
    offers = {"cpu": 1, "memory_mb": 2048, "gpus": 0}
    return {"name": kind, "type": kind, "image": image, "offers": offers, "job_variables": variables}


@pytest.fixture(scope="module", params=KINDS)
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    kind: str = request.param
    root = tmp_path_factory.mktemp(f"lake-{kind}")
    environment = engine_environment(ENGINES[kind])
    endpoint, (key, secret) = environment["S3_ENDPOINT_URL"], environment["S3_ALICE"].split(":")
    site, bucket = root / "site", f"volvox-{uuid.uuid4().hex[:12]}"
    nearest.install(site, "scales", SCALES)
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)
    blocks = {
        "store": {"address": f"s3://{bucket}/store", "endpoint": endpoint, "access_key_id": key,
                  "secret_access_key": secret, "region": "us-east-1"},
        "lake": {"access_key": key, "secret_key": secret, "region": "us-east-1"},
    }  # fmt: skip
    told = {name: value for name, value in environment.items() if name != "S3_ALICE"}
    settings = {
        "VOLVOX_PREFECT_PORT": "0", "VOLVOX_STORE": "block:shared", "VOLVOX_SWEEP_SECONDS": "1",
        "PYTHONPATH": os.pathsep.join([str(site), str(Path(__file__).parents[2])]),
    }  # fmt: skip
    made = Installation(root / "home", {**told, **settings})
    home = Home(made.home).ensure()
    inbox = open_inbox(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        for name, value in {**told, "PYTHONPATH": str(site)}.items():
            patch.setenv(name, value)
        patch.delenv("S3_ALICE", raising=False)
        try:
            subprocess.run(
                [sys.executable, "-c", SAVING], input=json.dumps(blocks), text=True, check=True, timeout=120,
                env={**os.environ, **settings, "VOLVOX_HOME": str(made.home)},
            )  # fmt: skip
            with training_image.built(root / "image", "scales") as image:
                home.folder("pools").joinpath(f"{kind}.yaml").write_text(yaml.safe_dump(pool_file(kind, image.name)))
            yield Lake(made, client, bucket, blocks["store"], f"s3+{endpoint}/{bucket}", kind, inbox)
        finally:
            for name in registry.functions(home):
                registry.remove(home, name)
            made.run("down", check=False)
            inbox.close()
            emptied(client, bucket)


def function(name: str, pool: str, place: str) -> Function:
    places = {
        "inputs": [{"url": f"{place}/in", "provider": "minio.lake"}],
        "outputs": [{"url": f"{place}/out", "provider": "minio.lake"}],
    }
    bulk = {"least": 20, "on": pool}
    told = {"name": name, "model": name, "runtime": "local", "bulk": bulk, "scaling": {"batch": 4}}
    return Function.model_validate({**told, **places, "providers": {"minio.lake": "block:lake"}})


def publish(store: dict[str, str], name: str, weights: Path, seconds: float) -> None:
    """A version of a model that takes so long for a file, in the store of the block."""
    weights.mkdir()
    (weights / "seconds").write_text(str(seconds))
    opened = ObjectStore(**{**store, "secret_access_key": SecretStr(store["secret_access_key"])}).open()  # pyright: ignore[reportArgumentType]
    version = ModelVersion(
        name=name, version="1", model="m" * 64, module="scales", code="c", weights_tree=opened.put_tree(weights),
        verdict=Verdict(accepted=True, reason="good", metric="accuracy", value=0.9, threshold=0.5), champion=True,
    )  # fmt: skip
    opened.put_record("champion", name, version.model_dump(mode="json"))
    opened.put_record("version", f"{name}-1", version.model_dump(mode="json"))


def emptied(client: Any, bucket: str) -> None:
    while found := client.list_objects_v2(Bucket=bucket).get("Contents", []):
        client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": one["Key"]} for one in found]})
    client.delete_bucket(Bucket=bucket)


def test_files_of_a_bucket_are_answered_by_one_run_on_the_pool(lake: Lake, tmp_path: Path) -> None:
    drop = lake.drop("weigh", 40, tmp_path, broken=1)
    until(lambda: drop.done() == 41, 300, drop.said)
    (run,) = drop.runs()
    assert (run["state"]["type"], run["work_pool_name"]) == ("COMPLETED", lake.pool)
    jobs = drop.jobs()
    good = {f"{job.key.removeprefix('weigh/in/')}.{job.id[:8]}.json": job for job in jobs if job.state == "SUCCEEDED"}
    assert len(good) == 40
    (bad,) = (job for job in jobs if job.state == "FAILED")
    assert "it cannot be weighed" in bad.reason
    assert {job.attempts for job in jobs} == {1}
    answers = drop.answers()
    assert {*answers} == {*good}
    assert {name: one["predictions"]["bytes"] for name, one in answers.items()} == {
        name: job.size for name, job in good.items()
    }
    assert {one["predictions"]["run"] for one in answers.values()} == {run["id"]}, "in the run's container, not here"
    assert [one["predictions"]["keys"] for one in answers.values()] == [[]] * 40, "no variable holds the bucket's key"
    page = f"one of 41 files for batch-inference on {lake.pool!r}: "
    assert all(any(step.reason.startswith(page) for step in job.steps) for job in jobs)
    assert "alice" not in json.dumps(run)
    assert all(b"alice-secret" not in path.read_bytes() for path in kept(lake.installation.home))


def test_a_container_that_is_killed_is_begun_again_and_writes_nothing_twice(lake: Lake, tmp_path: Path) -> None:
    drop = lake.drop("weigh-again", 40, tmp_path, seconds=0.2)
    until(lambda: len(drop.written()) >= 6, 120, drop.said)
    (run,) = drop.runs()
    pids = [pid for pid, one in processes_of_runs().items() if one == run["id"]]
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    before = drop.written()
    told = json.loads((lake.installation.home / "stack" / "functions.json").read_text())
    os.kill(told["pid"], signal.SIGKILL)  # and who follows the run, with it
    lake.installation.run("up")
    until(lambda: drop.done() == 40, 240, drop.said)
    assert {job.state for job in drop.jobs()} == {"SUCCEEDED"}
    assert {job.attempts for job in drop.jobs()} == {1}
    after = drop.written()
    assert len(after) == 40
    assert {name: after[name] for name in before} == before
    assert [one["state"]["type"] for one in drop.runs()] == ["CRASHED", "COMPLETED"]


def kept(home: Path) -> Iterator[Path]:
    """What the dispatcher, the functions and the pools of a home keep on the disk; Prefect's database is not theirs."""
    for folder in ("dispatch", "functions", "pools", "logs", "stack"):
        yield from (path for path in (home / folder).rglob("*") if path.is_file())

"""What the suite needs where containers are started: an image with the stand-in stage, a pool's file, a store."""

from __future__ import annotations

import io
import tarfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from volvox.identity import digest_of, files_digest
from volvox.settings import Home

if TYPE_CHECKING:
    from tests.deployments.pools.conftest import Pool
    from volvox.infrastructure.jobs import Engine, Job

MODULE = "nearest"  # needs no torch, so its image is made in a fraction of the time


def prepare(kind: str, name: str, home: Home, code: Path, patch: pytest.MonkeyPatch) -> None:
    """Build the image, write the pool's file, and choose the store: a folder for Docker, a bucket for the others."""
    image = _image(home, code, patch)
    if kind != "docker":
        patch.setenv("VOLVOX_STORE", f"block:{_bucket_block()}")
    variables: dict[str, Any] = {
        "docker": {"network_mode": "host"},
        "kubernetes": {"host_network": True, "namespace": "default"},
        "ecs": {"cluster": _cluster() if kind == "ecs" else "", "launch_type": "FARGATE"},
    }[kind]
    told = {
        "name": name, "type": kind, "image": image, "concurrency_limit": 4, "gpus_total": 2,
        "offers": {"cpu": 1, "memory_mb": 1500, "gpus": 0}, "environment": {"PYTHONPATH": "/opt/tests"},
        "job_variables": variables,
    }  # fmt: skip
    folder = home.folder("pools")
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(told))


def _image(home: Home, code: Path, patch: pytest.MonkeyPatch) -> str:
    import os

    from tests import training_image
    from tests.flows import nearest

    site = home.folder("site")
    nearest.install(site)
    patch.syspath_prepend(str(site))
    patch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ['PYTHONPATH']}")
    with training_image.built(home.folder("image"), MODULE) as built:
        return _with_code(built.name, code)


def _with_code(base: str, code: Path) -> str:
    import docker

    dockerfile = f"FROM {base}\nCOPY code /opt/tests\n".encode()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        told = tarfile.TarInfo("Dockerfile")
        told.size = len(dockerfile)
        archive.addfile(told, io.BytesIO(dockerfile))
        archive.add(code, "code", filter=lambda entry: None if "__pycache__" in entry.name else entry)
    context.seek(0)
    # By its content: a checkout beside this one may test with other code on the same engine.
    name = f"volvox-tests/pools:{digest_of([base, files_digest(code, code.rglob('*.py'))])[:12]}"
    image, _ = docker.from_env().images.build(fileobj=context, custom_context=True, tag=name, rm=True)
    assert image.id
    return name


def _bucket_block() -> str:
    import os

    from blocks.store import ObjectStore

    bucket = f"volvox-{uuid.uuid4().hex[:12]}"
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    httpx.put(f"{endpoint}/{bucket}").raise_for_status()
    block = ObjectStore.model_validate(
        {
            "address": f"s3://{bucket}/store", "endpoint": endpoint, "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"], "region": "us-east-1",
        }
    )  # fmt: skip
    block.save("shared", overwrite=True, _sync=True)  # pyright: ignore[reportCallIssue]
    return "shared"


def _cluster() -> str:
    import boto3

    name = f"volvox-{uuid.uuid4().hex[:8]}"
    boto3.client("ecs").create_cluster(clusterName=name)
    return name


async def engine(pool: Pool) -> Engine:
    """The engine itself, past Prefect."""
    from prefect.client.orchestration import get_client

    from deployments.workers import engine_for
    from volvox.pools.files import read_pools

    async with get_client() as client:
        found = await engine_for(read_pools(pool.home)[pool.name], client)
    assert found is not None
    return found


async def jobs(pool: Pool) -> list[Job]:
    """What lives on the engine."""
    opened = await engine(pool)
    try:
        return [job for job in await opened.jobs() if job.live]
    finally:
        await opened.close()


async def remove(pool: Pool, run_id: str) -> None:
    """Take the job of a flow run away, without a word to anybody."""
    opened = await engine(pool)
    try:
        for job in await opened.jobs():
            if job.run_id == run_id and job.live:
                await opened.end(job, 0)
    finally:
        await opened.close()

"""Manifests against the schemas of Kubernetes itself, and two pods on a real one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from volvox.distributed.kubernetes import (
    FLOW_RUN_LABEL,
    Training,
    headless_service,
    indexed_job,
    pod,
    rendezvous_secret,
)
from volvox.distributed.launch import TOKEN
from volvox.errors import InvalidInput

PLAIN = Training("digits", "registry/training:1", ["python", "train.py"])
FULL = Training(
    "digits", "registry/training:1", ["python", "train.py"], nodes=4, processes=2, flow_run=str(uuid.uuid4()),
    namespace="learning", labels={"team": "plankton"}, environment={"VOLVOX_STORE": "s3://bucket"},
    secret_environment=["store"], cpu=2.5, memory_mb=8000, gpus=2, host_network=True, node_selector={"gpu": "a100"},
    volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    mounts=[{"name": "data", "mountPath": "/data", "readOnly": True}],
    owner={"apiVersion": "batch/v1", "kind": "Job", "name": "stage", "uid": str(uuid.uuid4())}, deadline_seconds=86400,
)  # fmt: skip


def manifests(training: Training) -> list[dict]:
    pods = [pod(training, node, "10.0.0.7" if node else "") for node in range(training.nodes)]
    return [indexed_job(training), headless_service(training), rendezvous_secret(training), *pods]


def versions() -> list[str]:
    validate = pytest.importorskip("kubernetes_validate")
    folders = (Path(validate.__file__).parent / "kubernetes-json-schema").iterdir()
    found = {match[1] for folder in folders if (match := re.match(r"v?(1\.\d+)", folder.name))}
    return sorted(found, key=lambda version: int(version.split(".")[1]))


@pytest.mark.parametrize("training", [PLAIN, FULL], ids=["plain", "full"])
def test_the_manifests_are_valid_in_every_kubernetes_from_1_25_on(training) -> None:
    import kubernetes_validate

    known = versions()
    assert "1.25" in known
    assert len(known) >= 10
    for version in known:
        for manifest in manifests(training):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_check_is_strict() -> None:
    import kubernetes_validate

    wrong = indexed_job(PLAIN)
    wrong["spec"]["completionmode"] = "Indexed"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.25", strict=True)


def test_a_job_runs_all_pods_at_once_and_never_a_second_time() -> None:
    job = indexed_job(FULL)
    spec, template = job["spec"], job["spec"]["template"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (
        "Indexed",
        4,
        4,
        0,
    )
    assert template["spec"]["restartPolicy"] == "Never"
    assert template["spec"]["subdomain"] == headless_service(FULL)["metadata"]["name"] == "digits"
    assert headless_service(FULL)["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert job["metadata"]["labels"][FLOW_RUN_LABEL] == template["metadata"]["labels"][FLOW_RUN_LABEL] == FULL.flow_run
    assert job["metadata"]["ownerReferences"] == [FULL.owner]
    (container,) = template["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "8000Mi", "nvidia.com/gpu": "2"}
    assert container["resources"]["requests"] == {"cpu": "2.5", "memory": "8000Mi", "nvidia.com/gpu": "2"}
    assert template["spec"]["securityContext"]["runAsNonRoot"]


def test_the_command_is_one_that_the_launcher_understands(monkeypatch) -> None:
    from volvox.distributed import launch

    monkeypatch.setenv(TOKEN, "secret")
    monkeypatch.delenv("NODE_RANK", raising=False)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    command = indexed_job(FULL)["spec"]["template"]["spec"]["containers"][0]["command"]
    group = launch._group(launch._options(command[3:])[0])
    assert (group.nodes, group.node, group.processes, group.port) == (4, 3, 2, 29500)
    assert group.host == "digits-0.digits.learning.svc"
    for node, host in ((0, "0.0.0.0"), (1, "fd00::7")):
        command = pod(FULL, node, "fd00::7")["spec"]["containers"][0]["command"]
        group = launch._group(launch._options(command[3:])[0])
        assert (group.node, group.host, group.port) == (node, host, 29500)


def test_the_token_is_in_the_secret_alone() -> None:
    token = rendezvous_secret(PLAIN)["stringData"]["token"]
    assert token != rendezvous_secret(PLAIN)["stringData"]["token"]
    assert len(token) > 30
    for manifest in (indexed_job(PLAIN), pod(PLAIN, 0)):
        assert "secretKeyRef" in json.dumps(manifest)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Digits_1"}, "cannot name a training"),
        ({"name": "d" * 57}, "at most 56"),
        ({"nodes": 0}, "ask for at least one"),
        ({"gpus": 2}, "2 GPUs a pod are asked for 1 processes"),
        ({"user": 0}, "root"),
        ({"environment": {TOKEN: "x"}}, "readable in the manifest"),
    ],
)
def test_what_no_cluster_would_run_is_refused(changed, said) -> None:
    with pytest.raises(InvalidInput, match=said):
        Training(**{"name": "digits", "image": "i", "command": ["c"], **changed})


def test_a_pod_has_to_know_the_first_one() -> None:
    with pytest.raises(InvalidInput, match="address of pod 0"):
        pod(PLAIN, 1)
    with pytest.raises(InvalidInput, match="no node 2 of 2"):
        pod(PLAIN, 2, "10.0.0.7")


TRAIN = textwrap.dedent(
    """
    import json
    from pathlib import Path
    from PIL import Image
    from image_classifier import api, export
    export._export = lambda network, path, preprocessing: path.write_bytes(b"")
    export.largest_difference = lambda network, path, images: 0.0
    data = Path("/tmp/data")
    for label, name in enumerate(("dark", "light")):
        (data / "images" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (16, 16), (60 + 100 * label + number,) * 3).save(data / "images" / name / f"{number}.png")
    print("TOLD", json.dumps(api.train(data=data, output="/tmp/output", epochs=3, accelerator="cpu")))
    """
)
FAIL = "import os, signal, time; os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Kubernetes of VOLVOX_ENGINES; it is left running for the next test."""
    engines = os.environ.get("VOLVOX_ENGINES")
    if not engines:
        pytest.skip("VOLVOX_ENGINES is not set: no Kubernetes to test with")
    told = subprocess.run([f"{engines}/up", "k8s"], capture_output=True, text=True, timeout=300, check=True).stdout
    for name, value in re.findall(r"\b([A-Z_]+)=(\S+)", told):
        monkeypatch.setenv(name, value)


def on_this_python(code: str) -> Training:
    """A training in the base image: it has this machine's Python, and what is installed here is mounted."""
    paths = [path for path in dict.fromkeys(map(os.path.realpath, sys.path)) if Path(path).is_dir()]
    return Training(
        f"ddp-{uuid.uuid4().hex[:8]}", os.environ.get("ENGINE_BASE_IMAGE", "engines/python:3.11"),
        ["python", "-c", code], cpu=0.25, memory_mb=1500, wait_seconds=60, labels={"volvox-test": "distributed"},
        volumes=[{"name": f"path-{number}", "hostPath": {"path": path}} for number, path in enumerate(paths)],
        mounts=[{"name": f"path-{number}", "mountPath": path, "readOnly": True} for number, path in enumerate(paths)],
        environment={"PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.k8s
@pytest.mark.soak  # pods that import torch take minutes on two cores
def test_two_pods_train_together(kubernetes) -> None:
    pytest.importorskip("pytorch_lightning", reason="training needs torch")
    ended, logs = asyncio.run(_run(on_this_python(TRAIN)))
    assert ended == [0, 0], logs
    assert '"epochs": 3' in logs[0]
    assert '"rank": 1' in logs[1]


@pytest.mark.k8s
@pytest.mark.soak  # pods that import torch take minutes on two cores
def test_a_process_that_is_killed_in_one_pod_ends_both(kubernetes) -> None:
    ended, logs = asyncio.run(_run(on_this_python(FAIL)))
    assert ended == [137, 137], logs
    assert all("rank 1 on node 1 was ended by SIGKILL" in log for log in logs)


async def _run(training: Training) -> tuple[list[int], list[str]]:
    """Exit codes and logs of the pods of a training, which are removed again."""
    from kubernetes_asyncio import client, config

    await config.load_kube_config(os.environ["KUBECONFIG"])
    async with client.ApiClient() as api:
        core, namespace = client.CoreV1Api(api), training.namespace
        names = [f"{training.name}-{node}" for node in range(training.nodes)]

        async def until(name, told):
            async with asyncio.timeout(240):
                while not (found := told(await core.read_namespaced_pod(name, namespace))):
                    await asyncio.sleep(0.2)
                return found

        await core.create_namespaced_secret(namespace, rendezvous_secret(training))
        try:
            await core.create_namespaced_pod(namespace, pod(training, 0))
            address = await until(names[0], lambda found: found.status.pod_ip)
            for node in range(1, training.nodes):
                await core.create_namespaced_pod(namespace, pod(training, node, address))
            codes = []
            for name in names:
                await until(name, lambda found: found.status.phase in ("Succeeded", "Failed"))
                (status,) = (await core.read_namespaced_pod(name, namespace)).status.container_statuses
                codes.append(status.state.terminated.exit_code)
            return codes, [await core.read_namespaced_pod_log(name, namespace) for name in names]
        finally:
            for name in names:
                await core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            await core.delete_namespaced_secret(training.name, namespace)

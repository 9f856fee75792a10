from __future__ import annotations

from pathlib import Path

import pytest

from tests.volvox.functions.made_up import SCAR, defined, only, refused


def test_a_function_of_scar_is_read(tmp_path: Path) -> None:
    found = defined(tmp_path, SCAR)
    [function] = found.functions
    path = tmp_path / "functions.yaml"
    assert function.model_dump(exclude_defaults=True) == {
        "name": "frames", "origin": "scar", "image": "example/ffmpeg:4", "script": "#!/bin/sh\necho frames.sh\n",
        "inputs": ({"url": "s3://films/new", "provider": "s3.default"},),
        "outputs": ({"url": "s3://films/frames", "provider": "s3.archive", "suffix": ("png",), "prefix": ("f-",)},),
        "environment": {"FPS": "2"}, "resources": {"memory_mb": 1024}, "timeout_seconds": 600.0,
        "settings": {"api_gateway": {"name": "films"}, "storage_providers": {"s3.archive": {"region": "eu-west-1"}}},
        "providers": {"s3.archive": f"file:{path}#storage_providers.s3.archive"},
    }  # fmt: skip
    kept, secret = found.warnings
    assert ":21: functions.aws.0.api_gateway.name is kept: an address that calls the function over HTTP" in kept
    assert ":24: storage_providers.s3.archive holds credentials; they are not kept but read again from this" in secret


@pytest.mark.parametrize(
    ("mode", "memory", "cpu", "gpus", "seconds"),
    [("lambda", 512, None, 0, 100), ("lambda-batch", 512, None, 1, 100), ("batch", 4096, 2, 1, 86_400)],
)
def test_a_mode_decides_whose_memory_counts(
    tmp_path: Path, mode: str, memory: int, cpu: float, gpus: int, seconds: float
) -> None:
    function = only(
        tmp_path,
        f"functions: {{aws: [{{lambda: {{name: n, container: {{image: i}}, execution_mode: {mode}, memory: '512', "
        "timeout: 100}, batch: {vcpus: 2, memory: 4096, enable_gpu: 'True', compute_resources: {max_v_cpus: 4}}}]}",
    )
    assert function.runtime == mode
    assert function.resources.model_dump() == {"memory_mb": memory, "cpu": cpu, "gpus": gpus, "storage_mb": None}
    assert function.timeout_seconds == seconds
    assert function.settings["batch"]["compute_resources"] == {"max_v_cpus": 4}
    assert ("memory" in function.settings["batch"]) is (mode != "batch")


LAMBDA = "functions:\n  aws:\n  - lambda:\n      name: n\n      container: {image: i}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{LAMBDA}      memory: 64",
         ":6: functions.aws.0.lambda.memory is 64; write a whole number of MB from 128 to 10240"),
        (f"{LAMBDA}      memory: much", ":6: functions.aws.0.lambda.memory is 'much'"),
        (f"{LAMBDA}      timeout: 901",
         ":6: functions.aws.0.lambda.timeout is 901; write a whole number of seconds from 1 to"),
        (f"{LAMBDA}      execution_mode: btach",
         ":6: functions.aws.0.lambda.execution_mode is 'btach', did you mean 'batch'?"),
        (f"{LAMBDA}      layers: [x]", ":6: functions.aws.0.lambda.layers.0 is 'x'; write an ARN"),
        (f"{LAMBDA}      layers: x", ":6: functions.aws.0.lambda.layers is 'x'; write an ARN"),
        (f"{LAMBDA}      runtime: Python", ":6: functions.aws.0.lambda.runtime is 'Python'; write image, or a runtime"),
        (f"{LAMBDA}      region: us-east", ":6: functions.aws.0.lambda.region is 'us-east'; write a region of AWS"),
        (f"{LAMBDA}      architectures: [arm]",
         ":6: functions.aws.0.lambda.architectures.0 is 'arm', did you mean 'arm64'"),
        (f"{LAMBDA}      log_level: INF", ":6: functions.aws.0.lambda.log_level is 'INF', did you mean 'INFO'?"),
        (f"{LAMBDA}      vpc: here", ":6: functions.aws.0.lambda.vpc is 'here'; write keys and values"),
        (f"{LAMBDA}      input:\n      - storage_provider: s3", ":7: functions.aws.0.lambda.input.0.path is missing"),
        (f"{LAMBDA}      input: {{storage_provider: gcs, path: a/b}}",
         ":6: functions.aws.0.lambda.input.storage_provider is"),
        (f"{LAMBDA}      output: {{storage_provider: s3, path: -a}}",
         ":6: functions.aws.0.lambda.output.path is '-a': the address 's3://-a' names no bucket"),
        (f"{LAMBDA}      output: {{storage_provider: webdav.x, path: a}}",
         ":6: functions.aws.0.lambda.output.path is 'a': it needs"),
        (f"{LAMBDA}      environment: {{Variables: [a]}}",
         ":6: functions.aws.0.lambda.environment.Variables is a list"),
        (f"{LAMBDA}    batch: {{vcpus: none}}",
         ":6: functions.aws.0.batch.vcpus is 'none'; write a whole number from 1"),
        (f"{LAMBDA}    batch: {{compute_resources: {{type: GCE}}}}",
         ":6: functions.aws.0.batch.compute_resources.type is"),
        (f"{LAMBDA}    iam: {{role: me}}", ":6: functions.aws.0.iam.role is 'me'; write an ARN"),
        (f"{LAMBDA}    cloudwatch: {{log_retention_policy_in_days: 31}}",
         ":6: functions.aws.0.cloudwatch.log_retention"),
        (f"{LAMBDA}  azure: []", ":6: functions.azure is no provider of functions; there are aws and oscar"),
        (f"---\n{LAMBDA}---\n{LAMBDA}", ":2: a file in SCAR's or OSCAR's form holds one document"),
        ("functions: {aws: [{lambda: {name: a b, container: {image: i}}}]}",
         ":1: functions.aws.0.lambda.name is 'a b'; AWS"),
        ("functions: {aws: [{lambda: {container: {image: i}}}]}", ":1: functions.aws.0.lambda.name is missing"),
        ("functions: {aws: [{lambda: {name: n}}]}", ":1: lambda.container.image is missing; name the container image"),
        ("functions: {aws: [{function: n}]}", ":1: functions.aws.0 has no key 'lambda'"),
        ("functions: {aws: {lambda: 3}}", ":1: functions.aws.lambda is 3; write keys and values"),
        ("functions: {aws: []}", ":1: functions holds none; name at least one"),
    ],
)  # fmt: skip
def test_what_scar_would_accept_and_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text).startswith(said)


def test_what_scar_would_ignore_is_kept_and_told(tmp_path: Path) -> None:
    found = defined(
        tmp_path, f"{LAMBDA}      memroy: 128\n      Memory: 256\n    bacth: {{x: 1}}\nstorage_provider: {{}}\n"
    )
    [function] = found.functions
    assert function.resources.memory_mb == 256
    assert function.settings == {"lambda": {"memroy": 128}, "bacth": {"x": 1}}
    told = "\n".join(found.warnings)
    assert ":6: functions.aws.0.lambda.memroy is not known, did you mean 'memory'?; it is kept and does nothing" in told
    assert ":8: functions.aws.0.bacth is not known, did you mean 'batch'?" in told
    assert ":9: storage_provider is not known, did you mean 'storage_providers'?" in told


def test_an_image_in_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    found = defined(tmp_path, "functions: {aws: [{lambda: {name: n, container: {image_file: image.tar}}}]}")
    assert found.functions[0].image == f"docker-archive:{tmp_path}/image.tar"
    assert [missing.what for missing in found.missing] == ["image file"]

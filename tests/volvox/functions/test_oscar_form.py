from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.volvox.functions.made_up import OSCAR, defined, only, refused
from volvox.functions.reading import parse
from volvox.functions.writing import written


def test_a_service_of_oscar_is_read(tmp_path: Path) -> None:
    [function] = defined(tmp_path, OSCAR).functions
    path = tmp_path / "functions.yaml"
    place = "functions.oscar.0.site-a.environment.Secrets.LOGIN"
    assert function.model_dump(exclude_defaults=True) == {
        "name": "plants", "origin": "oscar", "image": "example/plants", "script": "#!/bin/sh\necho plants.sh\n",
        "runtime": "oscar", "inputs": ({"url": "s3://plants/incoming", "provider": "minio.default"},),
        "outputs": ({"url": "s3://plants/output", "provider": "minio.default"},),
        "environment": {"LIMIT": "5", "LOGIN": f"{{{{ file:{path}#{place} }}}}"},
        "resources": {"memory_mb": 2048, "cpu": 1.0}, "scaling": {"max_scale": 3}, "timeout_seconds": 86_400.0,
        "settings": {"cluster_id": "site-a", "log_level": "CRITICAL",
                     "storage_providers": {"clusters.site-a": {"endpoint": "https://oscar.example.org"}}},
        "providers": {"clusters.site-a": f"file:{path}#clusters.site-a"},
    }  # fmt: skip


def test_credentials_of_a_cluster_beside_the_service_are_not_kept(tmp_path: Path) -> None:
    [function] = defined(
        tmp_path,
        "functions: {oscar: [{a: {name: n, image: i, endpoint: 'https://o', auth_user: u, auth_password: hunter2, "
        "ssl_verify: 'false', token: hunter2, annotations: {x: 1}, mount: {options: {secret_key: hunter2}}}}]}",
    ).functions
    assert "hunter2" not in function.model_dump_json()
    assert function.runtime == "oscar"
    assert function.providers["clusters.a"].endswith("#functions.oscar.0.a")
    assert function.settings["storage_providers"]["clusters.a"] == {"endpoint": "https://o", "ssl_verify": False}


SERVICE = "functions:\n  oscar:\n  - site:\n      name: n\n      image: i\n"


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("expose: {api_port: 80, min_scale: '1', set_auth: 'true'}",
         {"expose": {"api_port": [80], "min_scale": 1, "set_auth": True}}),
        ("expose: {api_port: [80, 443]}", {"expose": {"api_port": [80, 443]}}),
        ("replicas: [{type: oscar, cluster_id: b}]",
         {"federation": {"members": [{"type": "oscar", "cluster_id": "b"}]}}),
        ("delegation: random", {"federation": {"delegation": "random"}}),
        ("ANNOTATIONS: {a: 1}", {"annotations": {"a": 1}}),
        ("kserve: {type: inference, storage_uri: 's3://m', inference: {model_format: onnx}}",
         {"kserve": {"type": "inference", "storage_uri": "s3://m", "inference": {"model_format": "onnx"}}}),
        ("visibility: Restricted\n      allowed_users: a@b", {"visibility": "restricted", "allowed_users": ["a@b"]}),
        ("volume: {size: 1Gi, mount_path: /data}", {"volume": {"size": "1Gi", "mount_path": "/data"}}),
        ("bucket_list: [a]", {}),
    ],
)  # fmt: skip
def test_keys_without_a_field_are_kept(tmp_path: Path, line: str, settings: dict) -> None:
    found = defined(tmp_path, f"{SERVICE}      {line}\n")
    assert found.functions[0].settings == {"cluster_id": "site", **settings}
    assert f":6: functions.oscar.0.site.{line.partition(':')[0]}" in found.warnings[0]


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("cpu: 0.5", lambda function: function.resources.cpu == 0.5),
        ("cpu: '500m'", lambda function: function.resources.cpu == 0.5),
        ("enable_gpu: 'yes'", lambda function: function.resources.gpus == 1),
        ("ephemeral_storage_request: 2Gi", lambda function: function.resources.storage_mb == 2048),
        ("file_stage_in: true", lambda function: function.fetches is False),
        ("synchronous: {min_scale: 2}",
         lambda function: (function.scaling.min_scale, function.scaling.max_scale) == (2, 1000)),
        ("environment: {variables: {A: 1.10, B: no, C: }}",
         lambda function: function.environment == {"A": "1.10", "B": "no", "C": ""}),
        ("memory: 1Gi\t\t", lambda function: function.resources.memory_mb == 1024),
        ("script: |\n        echo a\n        echo b", lambda function: function.script == "echo a\necho b\n"),
        ("input: {storage_provider: s3, path: other/in}", lambda function: function.inputs[0].url == "s3://other/in"),
    ],
)  # fmt: skip
def test_values_are_read_as_their_users_write_them(tmp_path: Path, line: str, check) -> None:
    assert check(only(tmp_path, f"{SERVICE}      {line}\n"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("memory: 256", "memory is 256; these are 256 bytes, and nothing runs in less than 4Mi; write 256Mi"),
        ("cpu: 1.0.0", "cpu is '1.0.0'; write a number with one of the units"),
        ("log_level: LOUD", "log_level is 'LOUD'; allowed are NOTSET"),
        ("enable_gpu: 2", "enable_gpu is 2; write true or false"),
        ("expose: {api_port: 70000}", "expose.api_port is 70000; write a whole number from 0 to 65535"),
        ("kserve: {type: onnx}", "kserve.type is 'onnx'"),
        ("kserve: {type: inference}", "kserve has no storage_uri; KServe needs type and storage_uri"),
        ("federation: {members: [b]}", "federation.members.0 is 'b'; write keys and values"),
        ("federation: {members: [{type: oscr}]}", "federation.members.0.type is 'oscr', did you mean 'oscar'?"),
        ("synchronous: {min_scale: 4, max_scale: 2}", "synchronous.min_scale is 4, and max_scale 2"),
        ("total_memory: lots", "total_memory is 'lots'"),
        ("federation: {topology: ring}", "federation.topology is 'ring'; allowed are none, star, mesh"),
        ("input: {storage_provider: minio, path: ' / '}", "input.path is ' / ': it names nothing; write bucket/folder"),
        ("environment: {variables: {A: {b: c}}}",
         "environment.variables.A is keys and values; the value of a variable"),
        ("environment: {variables: {A B: c}}", "environment.variables.A B cannot name a variable"),
    ],
)  # fmt: skip
def test_what_oscar_would_refuse_or_misread_is_refused(tmp_path: Path, line: str, said: str) -> None:
    assert f":6: functions.oscar.0.site.{said}" in refused(tmp_path, f"{SERVICE}      {line}\n")


@pytest.mark.parametrize("name", ["a" * 40, "-a", "a b", "ä"])
def test_a_name_that_no_label_can_have_is_refused(tmp_path: Path, name: str) -> None:
    assert ":4: functions.oscar.0.site.name is" in refused(tmp_path, SERVICE.replace("name: n", f"name: {name}"))


def test_one_name_on_two_clusters_is_two_functions(tmp_path: Path) -> None:
    text = "functions: {oscar: [{a: {name: n, image: i}}, {b: {name: n, image: i}}, {b: {name: m, image: i}}]}"
    found = defined(tmp_path, text)
    assert [function.name for function in found.functions] == ["n.a", "n.b", "m"]
    assert [function.settings.get("name") for function in found.functions] == ["n", "n", None]
    assert "is called 'n.a' here" in found.warnings[0]
    assert "stands in line" in refused(tmp_path, text.replace("b: {name: n", "a: {name: n"))


def test_a_place_that_none_of_ours_can_be_is_kept_and_written_again(tmp_path: Path) -> None:
    item = {"storage_provider": "rucio.x", "path": "scope/in", "suffix": ["png"]}
    found = defined(tmp_path, f"{SERVICE}      input: [{item}, {{storage_provider: minio, path: in}}]\n")
    [function] = found.functions
    assert [place.url for place in function.inputs] == ["s3://n/in"]
    assert function.settings == {"cluster_id": "site", "input": [item]}
    assert (
        ":6: functions.oscar.0.site.input.0 is kept: a place that an OSCAR cluster alone reaches" in found.warnings[0]
    )
    text, warnings = written([function], "oscar")
    assert warnings == []
    assert parse(text, tmp_path / "again.yaml").functions == (function,)


def test_a_service_as_a_cluster_answers_it_is_read(tmp_path: Path) -> None:
    """Everything that was never stated stands in it, empty."""
    service = {
        "name": "n",
        "image": "i",
        "cluster_id": "",
        "memory": "1Gi",
        "cpu": "0.5",
        "total_memory": "",
        "total_cpu": "",
        "ephemeral_storage_request": "",
        "enable_gpu": False,
        "log_level": "",
        "vo": "",
        "isolation_level": "",
        "synchronous": {"min_scale": 0, "max_scale": 0},
        "expose": {"api_port": [], "cpu_threshold": 0, "auth_type": ""},
        "kserve": {"type": "", "storage_uri": ""},
        "federation": {"group_id": "", "topology": "", "members": None},
        "volume": {"name": "", "size": ""},
        "mount": {"storage_provider": "", "path": ""},
        "visibility": "private",
        "environment": {"variables": {}, "secrets": {}},
        "input": None,
        "output": [],
        "allowed_users": None,
        "script": "#!/bin/sh\necho a\n",
        "token": "hunter2",
        "owner": "cluster_admin",
        "namespace": "oscar-svc",
        "storage_providers": {
            "minio": {"default": {"endpoint": "https://m", "access_key": "hidden", "secret_key": "hidden"}}
        },
    }
    found = defined(tmp_path, json.dumps({"functions": {"oscar": [{"site": service}]}}))
    [function] = found.functions
    assert function.script == "#!/bin/sh\necho a\n"
    assert function.settings == {
        "cluster_id": "site", "visibility": "private", "expose": {"api_port": [], "cpu_threshold": 0},
    }  # fmt: skip
    assert function.providers == {}
    assert function.scaling.max_scale == 1
    assert "hunter2" not in "".join(found.warnings)


def test_what_stands_in_a_service_is_for_it_alone(tmp_path: Path) -> None:
    place = "input: [{storage_provider: minio.x, path: in}]"
    own = "storage_providers: {minio: {x: {access_key: hunter2, secret_key: hunter2}}}"
    one, two = defined(
        tmp_path,
        f"functions: {{oscar: [{{a: {{name: n, image: i, {place}, {own}}}}}, {{a: {{name: m, image: i, {place}}}}}]}}",
    ).functions
    assert one.providers["minio.x"].endswith("#functions.oscar.0.a.storage_providers.minio.x")
    assert two.providers == {}

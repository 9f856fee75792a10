"""The pods of further nodes beside the job of a stage."""

from __future__ import annotations

import json

import pytest

from tests.volvox.distributed.test_kubernetes import versions
from volvox.distributed.kubernetes import Group
from volvox.distributed.launch import TOKEN
from volvox.distributed.together import GROUP, NODE, NODES, RENDEZVOUS, Together
from volvox.errors import InvalidInput

OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": "stage-x7", "uid": "8f2d3f8e-95f2-4a33-9d6c-6d6a1f0a8f6e"}
LABELS = {"prefect.io/flow-run-id": "8f2d3f8e-95f2-4a33-9d6c-6d6a1f0a8f6f"}
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"namespace": "learning", "generateName": "stage-", "labels": LABELS},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {
                "restartPolicy": "Never",
                "hostNetwork": True,
                "securityContext": {"runAsUser": 1000},
                "containers": [
                    {
                        "name": "prefect-job", "image": "registry/training:1",
                        "args": ["python", "-m", "prefect.engine"],
                        "env": [
                            {"name": "PREFECT__FLOW_RUN_ID", "value": "8f2d"},
                            {"name": "VOLVOX_STORE", "value": "s3://b"},
                            {"name": "PREFECT_API_URL", "value": "http://127.0.0.1:4200/api"},
                        ],
                        "resources": {"limits": {"memory": "2000Mi"}, "requests": {"memory": "2000Mi"}},
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }
                ],
                "volumes": [{"name": "data", "hostPath": {"path": "/data"}}],
            },
        },
    },
}  # fmt: skip


def environment(manifest: dict) -> dict[str, str]:
    spec = manifest["spec"]["template"]["spec"] if manifest["kind"] == "Job" else manifest["spec"]
    return {one["name"]: one.get("value", "(secret)") for one in spec["containers"][0]["env"]}


@pytest.fixture
def group() -> Group:
    return Group("volvox-abc", 3, 20_400)


def test_the_first_node_is_told_where_it_listens_and_by_what_it_knows_the_others(group: Group) -> None:
    told = environment(group.first(JOB))
    assert told == {
        **environment(JOB), NODES: "3", NODE: "0", GROUP: "volvox-abc", RENDEZVOUS: ":20400", TOKEN: "(secret)",
    }  # fmt: skip
    assert environment(group.first(group.first(JOB))) == told
    assert TOKEN not in environment(JOB), "the manifest that was given is left as it was"


def test_another_node_has_all_that_the_first_one_has_and_goes_with_it(group: Group) -> None:
    pod = group.other(group.first(JOB), 2, "10.0.0.7", OWNER)
    assert (pod["kind"], pod["metadata"]["name"], pod["metadata"]["namespace"]) == ("Pod", "volvox-abc-2", "learning")
    assert pod["metadata"]["ownerReferences"] == [OWNER]
    assert not LABELS.keys() & pod["metadata"]["labels"].keys(), "who watches the run's job takes it for none of it"
    told = environment(pod)
    assert (told[NODE], told[RENDEZVOUS], told["VOLVOX_STORE"]) == ("2", "10.0.0.7:20400", "s3://b")
    assert "PREFECT__FLOW_RUN_ID" not in told
    (container,), (own,) = pod["spec"]["containers"], JOB["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "tasks.node"]
    assert "args" not in container
    for part in ("image", "resources", "volumeMounts"):
        assert container[part] == own[part]
    assert environment(group.other(JOB, 1, "fd00::7", OWNER))[RENDEZVOUS] == "[fd00::7]:20400"


def test_the_manifests_are_valid_in_every_kubernetes_from_1_25_on(group: Group) -> None:
    validating = pytest.importorskip("kubernetes_validate")
    made = [group.first(JOB), group.other(group.first(JOB), 1, "10.0.0.7", OWNER), group.secret("learning")]
    for version in versions():
        for manifest in made:
            validating.validate(manifest, version, strict=True)


def test_the_token_is_in_the_secret_alone(group: Group) -> None:
    assert group.secret("learning")["stringData"]["token"] == group.token
    assert len(group.token) > 30
    assert group.token not in json.dumps([group.first(JOB), group.other(JOB, 1, "10.0.0.7", OWNER)])
    assert group.token not in repr(group)


def test_a_node_reads_what_it_was_told(monkeypatch: pytest.MonkeyPatch, group: Group) -> None:
    for name, value in environment(group.other(JOB, 2, "10.0.0.7", OWNER)).items():
        monkeypatch.setenv(name, value)
    found = Together.told()
    assert (found.nodes, found.node, found.group) == (3, 2, "volvox-abc")
    assert found.options()[:8] == [
        "--nodes", "3", "--node-rank", "2", "--rendezvous", "10.0.0.7:20400", "--master-port", "20401",
    ]  # fmt: skip
    assert Together.told(3) == found
    with pytest.raises(InvalidInput, match="on 2 nodes was asked for"):
        Together.told(2)

"""What is made in a cluster, held against the schemas of Kubernetes itself."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from volvox.functions.definition import Function
from volvox.infrastructure.pods import quantity
from volvox.runtimes.pods import manifests, wrapping
from volvox.runtimes.pods.drift import differs, repaired
from volvox.runtimes.pods.settings import PodSettings

VERSIONS = ("1.25", "1.30", "1.34")
FULL = {
    "namespace": "lab", "pull_secret": ["one", "two"], "service_account": "plain", "user": "1234:5678",
    "node_selector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}], "labels": {"a": "b"},
    "priority_class": "low", "runtime_class": "gvisor", "annotations": {"c": "d"}, "host_network": True,
    "gpu_resource": "amd.com/gpu",
}  # fmt: skip
NEEDS = {"memory_mb": 300, "cpu": 0.5, "gpus": 2, "storage_mb": 2048}


def made(name: str = "Plankton_Films.2", settings: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The three objects of a model and a script of this name, by kind."""
    told = {"settings": settings or {}, "runtime": "kubernetes", **more}
    model, script = (
        Function(name=name, model="m", **told),
        Function(name=name, image="i", script="echo the-text", **told),
    )
    own = PodSettings.of(model)
    given = {"owner": "o", "label": "v"}
    objects = (
        manifests.deployment(model, own, image="reg/i", **given),
        manifests.service(model, own, **given),
        manifests.call_job(script, own, name="volvox-j", owner="o", dispatcher="h.1.2", program=wrapping.program()),
    )
    return {one["kind"]: one for one in objects}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("settings", [{}, FULL])
@pytest.mark.parametrize("name", ["a", "Plankton_Films.2", "x" * 64])
def test_it_is_what_the_api_takes_strictly(version: str, settings: dict[str, Any], name: str) -> None:
    for one in made(name, settings, resources=NEEDS if settings else {}).values():
        kubernetes_validate.validate(one, version, strict=True)
        assert len(one["metadata"]["name"]) <= 52 and one["metadata"]["namespace"] == settings.get(
            "namespace", "default"
        )
        for labels in (
            one["metadata"]["labels"],
            one["spec"].get("template", {}).get("metadata", {}).get("labels", {}),
        ):
            assert all(len(value) <= 63 for value in labels.values())


def test_a_misspelt_field_would_be_found() -> None:
    (wrong := made()["Deployment"])["spec"]["template"]["spec"]["automountServiceAccountTokens"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_may_do_as_little_as_possible(kind: str) -> None:
    pod = made()[kind]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] and rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["allowPrivilegeEscalation"] is False and pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_settings_and_needs_are_in_the_pod(kind: str) -> None:
    template = made(settings=FULL, resources=NEEDS)[kind]["spec"]["template"]
    pod = template["spec"]
    wanted = {"memory": "300Mi", "cpu": "500m", "amd.com/gpu": "2"}
    assert pod["containers"][0]["resources"] == {"limits": wanted, "requests": wanted}
    assert quantity(wanted["cpu"]) == 0.5
    assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}] and pod["serviceAccountName"] == "plain"
    assert pod["nodeSelector"] == {"disk": "fast"} and pod["tolerations"] == FULL["tolerations"]
    assert (pod["priorityClassName"], pod["runtimeClassName"], pod["hostNetwork"]) == ("low", "gvisor", True)
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (1234, 5678)
    assert template["metadata"]["labels"]["a"] == "b" and template["metadata"]["annotations"] == {"c": "d"}
    assert {"sizeLimit": "2Gi"} in [volume["emptyDir"] for volume in pod["volumes"]]


def test_two_names_that_read_alike_are_two_objects() -> None:
    names = {made(name)["Service"]["metadata"]["name"] for name in ("a.b", "a_b", "a-b", "A-B", "a" * 64, "a" * 63)}
    assert len(names) == 6


def test_nothing_of_a_call_stands_in_its_job() -> None:
    job = str(made(environment={"TOKEN": "hidden", "PLAIN": "shown"})["Job"])
    assert "hidden" not in job and "shown" not in job and "the-text" not in job


def test_what_differs_is_found_and_defaults_of_the_cluster_are_not() -> None:
    should = made(settings=FULL, resources=NEEDS)["Deployment"]
    there = made(settings=FULL, resources=NEEDS)["Deployment"]
    there["metadata"] |= {"resourceVersion": "7", "uid": "u"}
    there["spec"] |= {"replicas": 3, "minReadySeconds": 0}
    there["spec"]["template"]["spec"]["schedulerName"] = "default-scheduler"
    assert differs(should, there) == ""
    there["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    assert differs(should, there) == "spec.template.spec.containers.0.image"
    mended = repaired(should, there)
    assert differs(should, mended) == "" and mended["spec"]["replicas"] == 3
    assert mended["metadata"]["resourceVersion"] == "7"
    del there["metadata"]["labels"][manifests.OWNER]
    assert differs(should, there) == f"metadata.labels.{manifests.OWNER}"

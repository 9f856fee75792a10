"""Manifests for other systems. Their pods are held against Kubernetes' own schema, the rest against what these take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.volvox.runtimes.tiny import TinyModels
from volvox.errors import InvalidInput
from volvox.functions.definition import Function, Input
from volvox.records import Image
from volvox.runtimes.pods.exports import image_of, written

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
META = {
    "type": "object", "additionalProperties": False, "required": ["name"],
    "properties": {"name": {"type": "string", "pattern": "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"},
                   "namespace": {"type": "string"}, "labels": TEXTS, "annotations": TEXTS},
}  # fmt: skip
ONE_CONTAINER = {"type": "array", "minItems": 1, "maxItems": 1}
POD = ("imagePullSecrets", "serviceAccountName", "nodeSelector", "tolerations", "priorityClassName", "volumes",
       "automountServiceAccountToken", "enableServiceLinks")  # fmt: skip
KNATIVE = {
    "type": "object", "additionalProperties": False, "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "serving.knative.dev/v1"}, "kind": {"const": "Service"}, "metadata": META,
        "spec": {"type": "object", "additionalProperties": False, "required": ["template"], "properties": {"template": {
            "type": "object", "additionalProperties": False, "properties": {
                "metadata": {"type": "object", "additionalProperties": False,
                             "properties": {"annotations": TEXTS, "labels": TEXTS}},
                "spec": {"type": "object", "additionalProperties": False, "required": ["containers"], "properties": {
                    "containerConcurrency": {"type": "integer", "minimum": 0, "maximum": 1000},
                    "timeoutSeconds": {"type": "integer", "minimum": 1}, "containers": ONE_CONTAINER,
                    **{key: {} for key in POD},
                }},
            }}}},
    },
}  # fmt: skip
KSERVE = {
    "type": "object", "additionalProperties": False, "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"}, "kind": {"const": "InferenceService"}, "metadata": META,
        "spec": {"type": "object", "additionalProperties": False, "required": ["predictor"], "properties": {
            "predictor": {"type": "object", "additionalProperties": False, "required": ["containers"], "properties": {
                "minReplicas": {"type": "integer", "minimum": 0}, "maxReplicas": {"type": "integer", "minimum": 1},
                "containerConcurrency": {"type": "integer", "minimum": 0}, "timeout": {"type": "integer", "minimum": 1},
                "labels": TEXTS, "annotations": TEXTS, "containers": ONE_CONTAINER, **{key: {} for key in POD},
            }}}},
    },
}  # fmt: skip

SETTINGS = {"namespace": "lab", "pull_secret": "registry", "annotations": {"a": "b"}, "labels": {"c": "d"},
            "node_selector": {"gpu": "yes"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}  # fmt: skip


def model(**more: Any) -> Function:
    told = {"name": "Digits.2", "model": "tiny/1", "runtime": "kubernetes", "settings": SETTINGS}
    return Function(**{**told, "scaling": {"max_scale": 3, "batch": 8, "idle_seconds": 90}, **more})


def as_pod(pod: dict[str, Any]) -> None:
    """That Kubernetes takes its parts strictly, as those of a pod."""
    spec = {key: value for key, value in pod.items() if key in (*POD, "containers", "restartPolicy")}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    kubernetes_validate.validate(manifest, "1.30", strict=True)


@pytest.mark.parametrize(
    "more", [{}, {"resources": {"memory_mb": 300, "cpu": 1.5, "gpus": 1}, "timeout_seconds": 5000}]
)
def test_knative(more: dict[str, Any]) -> None:
    text, unsaid = written(model(**more), "knative", "reg/tiny@1")
    [service] = yaml.safe_load_all(text)
    jsonschema.validate(service, KNATIVE)
    template = service["spec"]["template"]
    as_pod(template["spec"])
    scale = {key.rpartition("/")[2]: value for key, value in template["metadata"]["annotations"].items()}
    assert (scale["min-scale"], scale["max-scale"], scale["scale-to-zero-pod-retention-period"]) == ("0", "3", "90s")
    assert template["spec"]["containerConcurrency"] == 8 and template["spec"]["containers"][0]["image"] == "reg/tiny@1"
    assert template["spec"]["timeoutSeconds"] <= 600
    flags = ["kubernetes.podspec-nodeselector", "kubernetes.podspec-tolerations"]
    assert [one.rpartition(" ")[2] for one in unsaid[:2]] == flags
    assert ["timeout_seconds" in one for one in unsaid[2:]] == ([True] if more else [])


@pytest.mark.parametrize("more", [{}, {"resources": {"memory_mb": 300, "gpus": 1}, "settings": {}}])
def test_kserve(more: dict[str, Any]) -> None:
    function = model(inputs=(Input(url="s3://a/b"),), arguments={"top": 1}, **more)
    text, unsaid = written(function, "kserve", "reg/tiny@1")
    [service] = yaml.safe_load_all(text)
    jsonschema.validate(service, KSERVE)
    predictor = service["spec"]["predictor"]
    as_pod(predictor)
    assert predictor["containers"][0]["name"] == "kserve-container" and predictor["maxReplicas"] == 3
    assert [one.partition(":")[0] for one in unsaid] == ["its places", "arguments"]


def test_a_field_that_is_none_of_theirs_would_be_found() -> None:
    [service] = yaml.safe_load_all(written(model(), "kserve", "i")[0])
    service["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        jsonschema.validate(service, KSERVE)


def test_oscar_s_job() -> None:
    function = Function(
        name="Plants", image="ai4oshub/plants", script="#!/bin/sh\necho ü\n", runtime="kubernetes", settings=SETTINGS,
        environment={"PLAIN": "a", "TOKEN": "{{ prefect.blocks.secret.T }}"}, resources={"memory_mb": 2048, "cpu": 1},
        inputs=(Input(url="s3://plants/input"),),
    )  # fmt: skip
    text, warnings = written(function, "oscar-job", function.image)
    configuration, job = yaml.safe_load_all(text)
    for one in (configuration, {**job, "metadata": {**job["metadata"], "name": "a"}}):
        kubernetes_validate.validate(one, "1.30", strict=True)
    assert configuration["data"]["script.sh"] == function.script
    service = yaml.safe_load(configuration["data"]["function_config.yaml"])
    assert service["memory"] == "2Gi" and service["input"] == [
        {"storage_provider": "minio.default", "path": "plants/input"}
    ]
    [container] = job["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["PLAIN"] == "a" and "TOKEN" not in variables and variables["OSCAR_SERVICE_NAME"] == "plants"
    assert job["metadata"]["generateName"] == "plants-" and re.fullmatch(r"[a-z-]+", configuration["metadata"]["name"])
    assert any(one.startswith("TOKEN: a secret stands in no manifest") for one in warnings)


def test_what_a_form_cannot_run_is_refused(tmp_path: Path) -> None:
    script = Function(name="s", image="i", script="echo")
    for form in ("knative", "kserve"):
        with pytest.raises(InvalidInput, match="a script, which answers no HTTP"):
            written(script, form, "i")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="has no script"):
        written(model(), "oscar-job", "i")
    models = TinyModels(tmp_path)
    with pytest.raises(InvalidInput, match="VOLVOX_REGISTRY"):
        image_of(model(), models)
    models.images["1"] = Image(name="t:1", version="", context_object="", built=True, pushed="reg/t@sha256:1")
    assert image_of(model(), models) == "reg/t@sha256:1" and image_of(script, models) == "i"

"""A function as the manifests of other systems on Kubernetes: Knative, KServe, and the jobs of an OSCAR cluster.

They are written for those who run these systems themselves; our own runtime needs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import yaml

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.packaging.context import PORT
from volvox.runtimes import asking
from volvox.runtimes.models import Models
from volvox.runtimes.pods import manifests
from volvox.runtimes.pods.settings import PodSettings

Form = Literal["knative", "kserve", "oscar-job"]
FORMS: tuple[Form, ...] = get_args(Form)

_KNATIVE_SECONDS = 600  # what a cluster allows a request unless its operator said otherwise
_KNATIVE_IDLE_SECONDS = 3600
_OSCAR_KEPT_SECONDS = 30 * 86_400
_OSCAR_FOLDER = "/oscar"


def written(function: Function, form: Form, image: str) -> tuple[str, list[str]]:
    """The manifests as YAML, and what they do not say.

    Args:
        function: What is to run.
        form: Whose manifests.
        image: Of a model, its serving image; of a script it is the function's own.

    Raises:
        InvalidInput: If that form cannot run it.
    """
    settings = PodSettings.of(function)
    if form == "oscar-job":
        objects, unsaid = _oscar(function, settings)
    elif not function.model:
        raise InvalidInput(f"function {function.name!r} is a script, which answers no HTTP; {form} runs models")
    elif form == "knative":
        objects, unsaid = [_knative(function, settings, image)], _of_service(function)
        flags = {"nodeSelector": settings.node_selector, "tolerations": settings.tolerations,
                 "priorityClassName": settings.priority_class}  # fmt: skip
        unsaid += [
            f"{key}: it counts where the cluster has Knative's feature kubernetes.podspec-{key.lower()}"
            for key, value in flags.items()
            if value
        ]
        if function.timeout_seconds > _KNATIVE_SECONDS:
            unsaid.append(f"timeout_seconds beyond {_KNATIVE_SECONDS}: clusters allow no more unless they are told to")
    else:
        objects, unsaid = [_kserve(function, settings, image)], _of_service(function)
    return yaml.safe_dump_all(objects, sort_keys=False, width=120, allow_unicode=True), unsaid


def image_of(function: Function, models: Models) -> str:
    """The image of a function: its own, or the serving image of the version that its model means now.

    Raises:
        InvalidInput: If the model has none that a cluster could fetch.
        NotFound: If there is no such model.
    """
    if not function.model:
        return function.image
    model = models.resolve(function.model)
    image = models.image(model)
    if image is None or not image.pushed:
        raise InvalidInput(
            f"model {model.name!r}, version {model.version}, has no serving image in a registry: set VOLVOX_REGISTRY "
            "and run the cycle again"
        )
    return image.pushed


def _of_service(function: Function) -> list[str]:
    """What nobody but a dispatcher does."""
    found = ["its places: whoever has files asks it over HTTP"] if function.inputs or function.outputs else []
    found += ["arguments: they are given with each request"] if function.arguments else []
    return [*found, *(["scaling.warm"] if function.scaling.warm else [])]


def _knative(function: Function, settings: PodSettings, image: str) -> dict[str, Any]:
    scaling = function.scaling
    idle = min(int(scaling.idle_seconds), _KNATIVE_IDLE_SECONDS)
    scale = {
        "autoscaling.knative.dev/min-scale": str(scaling.min_scale),
        "autoscaling.knative.dev/max-scale": str(scaling.max_scale),
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": f"{idle}s",
    }
    pod = _pod(function, settings, image, "user-container")
    pod["containers"][0]["ports"] = [{"name": "http1", "containerPort": PORT}]
    spec = {
        "containerConcurrency": scaling.concurrency * scaling.batch,
        "timeoutSeconds": int(min(max(function.timeout_seconds, 1), _KNATIVE_SECONDS)),
        **pod,
    }
    template = {"metadata": {"annotations": {**settings.annotations, **scale}, "labels": _labels(function, settings)}}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": _meta(function, settings),
        "spec": {"template": {**template, "spec": spec}},
    }


def _kserve(function: Function, settings: PodSettings, image: str) -> dict[str, Any]:
    scaling = function.scaling
    predictor: dict[str, Any] = {
        "minReplicas": scaling.min_scale,
        "maxReplicas": scaling.max_scale,
        "containerConcurrency": scaling.concurrency * scaling.batch,
        "timeout": max(1, int(function.timeout_seconds)),
        "labels": _labels(function, settings),
        **_pod(function, settings, image, "kserve-container"),
    }
    if settings.annotations:
        predictor["annotations"] = dict(settings.annotations)
    predictor["containers"][0]["ports"] = [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": _meta(function, settings),
        "spec": {"predictor": predictor},
    }


def _pod(function: Function, settings: PodSettings, image: str, container: str) -> dict[str, Any]:
    """The parts of a pod that both take."""
    made = manifests.deployment(function, settings, owner="export", label="export", image=image)
    pod = made["spec"]["template"]["spec"]
    kept = ("imagePullSecrets", "serviceAccountName", "nodeSelector", "tolerations", "priorityClassName", "volumes")
    told = {key: pod[key] for key in kept if key in pod}
    inside = dict(pod["containers"][0])
    user, group = settings.user_and_group
    rights = {key: value for key, value in inside["securityContext"].items() if key != "privileged"}
    inside["securityContext"] = {
        **rights, "runAsUser": user, "runAsGroup": group, "runAsNonRoot": user != 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    inside["args"] = [*asking.server_arguments(function)]
    for probe in ("readinessProbe", "livenessProbe"):
        inside[probe] = {**inside[probe], "httpGet": {"path": inside[probe]["httpGet"]["path"], "port": PORT}}
    inside = {key: value for key, value in inside.items() if value}
    return {**told, "automountServiceAccountToken": False, "enableServiceLinks": False,
            "containers": [{**inside, "name": container}]}  # fmt: skip


def _oscar(function: Function, settings: PodSettings) -> tuple[list[dict[str, Any]], list[str]]:
    """What a cluster makes of a service: its configuration, and the Job of one event, which goes in as `EVENT`."""
    if function.model or not function.script:
        raise InvalidInput(f"function {function.name!r} has no script, and OSCAR's jobs run one")
    from volvox.functions.writing import written as definition

    text, warnings = definition([function], "oscar")
    (entry,) = yaml.safe_load(text)["functions"]["oscar"]
    (service,) = entry.values()
    name = service["name"].lower()
    config = yaml.safe_dump({key: value for key, value in service.items() if key != "script"}, sort_keys=False)
    carried = {"oscar_service": name}
    meta = {"namespace": settings.namespace, "labels": carried}
    configuration = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta},
        "data": {"script.sh": function.script, "function_config.yaml": config},
    }  # fmt: skip
    variables = [{"name": key, "value": value} for key, value in _plain(function.environment, warnings).items()]
    container: dict[str, Any] = {
        "name": "oscar-container",
        "image": function.image,
        "imagePullPolicy": "Always",
        "command": ["/bin/sh", "-c", f"echo $EVENT | {_OSCAR_FOLDER}/bin/supervisor"],
        "env": [
            {"name": "OSCAR_SERVICE_NAME", "value": name},
            {"name": "EVENT", "value": "{}"},
            {"name": "RESOURCE_ID", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "JOB_UUID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['job-name']"}}},
            *variables,
        ],
        "volumeMounts": [
            {"name": "oscar-config", "mountPath": f"{_OSCAR_FOLDER}/config", "readOnly": True},
            {"name": "oscar-volume", "mountPath": f"{_OSCAR_FOLDER}/bin", "readOnly": True},
        ],
    }
    if limits := manifests.resources(function, settings):
        container["resources"] = {"limits": limits["limits"]}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": "oscar-config", "configMap": {"name": name, "defaultMode": 0o755}},
            {"name": "oscar-volume", "persistentVolumeClaim": {"claimName": "oscar-pvc", "readOnly": True}},
        ],
    }
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": one} for one in settings.pull_secrets]
    template = {"metadata": {"labels": {**settings.labels, **carried}}, "spec": pod}
    if settings.annotations:
        template["metadata"]["annotations"] = dict(settings.annotations)
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": f"{name[:16]}-", **meta},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": _OSCAR_KEPT_SECONDS, "template": template},
    }  # fmt: skip
    return [configuration, job], warnings


def _plain(environment: Mapping[str, str], warnings: list[str]) -> dict[str, str]:
    """Variables without those that name a secret, which stand in no manifest."""
    secret = sorted(name for name, value in environment.items() if "{{" in value)
    warnings += [f"{name}: a secret stands in no manifest; give it as a Secret of the cluster" for name in secret]
    return {name: value for name, value in environment.items() if name not in secret}


def _meta(function: Function, settings: PodSettings) -> dict[str, Any]:
    name = manifests.object_name(function.name).removeprefix("volvox-").rpartition("-")[0]
    told = {manifests.NAME: function.name, manifests.DEFINITION: function.version}
    return {"name": name, "namespace": settings.namespace, "labels": _labels(function, settings), "annotations": told}


def _labels(function: Function, settings: PodSettings) -> dict[str, str]:
    return {**settings.labels, "app.kubernetes.io/part-of": "volvox",
            manifests.FUNCTION: manifests.function_label(function.name)}  # fmt: skip

"""The checks of a Kubernetes cluster: its API, namespace and rights, nodes that are large enough, and one pod."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from deployments.checks import registry
from deployments.checks.check import Check, Target, probed
from volvox.pools.definition import Offers

_LABEL = "volvox.check"
_ANSWERS_SECONDS = 8.0
_PROBE_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_REMOVE_SECONDS = 20.0
# What Prefect's worker, and what ends the jobs of cancelled runs, do: verb, group, resource, subresource.
_RIGHTS = (
    ("create", "batch", "jobs", ""), ("get", "batch", "jobs", ""), ("list", "batch", "jobs", ""),
    ("watch", "batch", "jobs", ""), ("delete", "batch", "jobs", ""), ("get", "", "pods", ""),
    ("list", "", "pods", ""), ("watch", "", "pods", ""), ("delete", "", "pods", ""), ("get", "", "pods", "log"),
    ("list", "", "events", ""),
)  # fmt: skip
_NEVER = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_NOT_MADE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


async def checks(target: Target, *, with_probe: bool) -> AsyncIterator[Check]:
    """See `deployments.checks.check.EngineChecks`."""
    configuration = target.configuration
    try:
        client = await _client(configuration)
    except Exception as error:  # the library raises what it likes for a configuration that is not there or is wrong
        yield Check(
            "engine", False, f"no cluster is configured here: {error}",
            "set KUBECONFIG to a file that `kubectl` can use, or name a cluster_config block in job_variables",
        )  # fmt: skip
        return
    async with client:
        api = _Api(client)
        version = await api.get("/version")
        if version.trouble:
            yield Check(
                "engine", False, f"the cluster at {api.host} does not answer: {version.trouble}",
                "check KUBECONFIG, the address in it and its credentials (`kubectl get nodes`)",
            )  # fmt: skip
            return
        yield Check("engine", True, f"{api.host} answers, Kubernetes {version.body.get('gitVersion', '?')}")
        namespace = configuration.namespace
        found, rights, nodes = await asyncio.gather(
            api.get(f"/api/v1/namespaces/{namespace}"), _rights(api, namespace), api.get("/api/v1/nodes")
        )
        room = capacity(nodes.body, nodes.trouble, target.pool.offers)
        told = (_namespace(namespace, found), rights, *room, await _image(target, nodes.body))
        for check in told:
            yield check
        # A registry that is not reached from here may be from the nodes: only what no pod could mend stops the probe.
        if with_probe and all(check.ok is not False for check in told):
            for check in await _probe(api, target):
                yield check


def capacity(nodes: dict[str, Any], trouble: str, offers: Offers) -> list[Check]:
    """Whether some node could hold a job that takes all that the pool's file offers.

    Args:
        nodes: The list of nodes as the API gives it.
        trouble: Why it gives none, or empty.
        offers: What the file says.
    """
    if trouble:
        return [Check("capacity", None, f"the nodes cannot be listed ({trouble})", "the probe tells whether one fits")]
    allocatable = [node["status"].get("allocatable", {}) for node in nodes.get("items", [])]
    fits = [
        node
        for node in allocatable
        if (offers.cpu or 0) <= quantity(node.get("cpu", "0"))
        and (offers.memory_mb or 0) * 2**20 <= quantity(node.get("memory", "0"))
    ]
    largest = max(allocatable, key=lambda node: quantity(node.get("memory", "0")), default={})
    told = f"{largest.get('cpu', 0)} CPU and {quantity(largest.get('memory', '0')) / 2**20:.0f} MB"
    found = [
        Check("capacity", True, f"{len(fits)} of {len(allocatable)} nodes can hold a job, the largest has {told}")
        if fits
        else Check(
            "capacity", False, f"no node can hold a job of all that the file offers; the largest has {told}",
            "offer less, or add a larger node",
        )
    ]  # fmt: skip
    if offers.gpus:
        gpus = max((quantity(node.get("nvidia.com/gpu", "0")) for node in allocatable), default=0)
        if gpus >= offers.gpus:
            found.append(Check("gpu", True, f"a node has {gpus:.0f} nvidia.com/gpu"))
        else:
            found.append(
                Check("gpu", False, f"the file offers {offers.gpus}, and no node has more than {gpus:.0f} "
                      "nvidia.com/gpu", "install NVIDIA's device plugin on the GPU nodes, or offer gpus: 0")
            )  # fmt: skip
    return found


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: `500m` is 0.5, `4Gi` is 4 * 2**30."""
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    number = text.rstrip("".join(set("".join(units))))
    try:
        return float(number) * units.get(text[len(number) :], 1)
    except ValueError:
        return 0.0


class _Answer:
    def __init__(self, status: int, body: Any, trouble: str = "") -> None:
        self.status, self.body, self.trouble = status, body if isinstance(body, dict) else {}, trouble
        self.text = body if isinstance(body, str) else ""


class _Api:
    """The few requests that are made, as plain JSON: the library's models drop what they do not know."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.host = client.configuration.host

    async def get(self, path: str, query: list[tuple[str, str]] | None = None) -> _Answer:
        return await self.ask("GET", path, query=query)

    async def ask(
        self, method: str, path: str, body: Any = None, query: list[tuple[str, str]] | None = None
    ) -> _Answer:
        from kubernetes_asyncio.client.exceptions import ApiException

        try:
            answer = await asyncio.wait_for(
                self._client.call_api(
                    path, method, query_params=query or [], body=body, header_params={"Accept": "application/json"},
                    auth_settings=["BearerToken"], _preload_content=False,
                ),
                _ANSWERS_SECONDS,
            )  # fmt: skip
            response = answer[0] if isinstance(answer, tuple) else answer
            content, status = await response.read(), response.status
        except ApiException as error:
            return _Answer(error.status or 0, {}, _said(error.status or 0, error.body or error.reason or ""))
        except TimeoutError:
            return _Answer(0, {}, f"no answer within {_ANSWERS_SECONDS:.0f} s")
        except Exception as error:  # of the HTTP library, TLS or a credential plug-in
            return _Answer(0, {}, f"{type(error).__name__}: {error}")
        if status >= 400:
            return _Answer(status, {}, _said(status, content))
        try:
            return _Answer(status, json.loads(content))
        except ValueError:
            return _Answer(status, content.decode(errors="replace"))


def _said(status: int, body: bytes | str) -> str:
    """Status and message of an error of the API."""
    try:
        return f"{status}: {json.loads(body)['message']}"
    except (ValueError, KeyError, TypeError):
        return str(status)


async def _client(configuration: Any) -> Any:
    """As Prefect's worker finds its cluster: a block, the pod it runs in, else KUBECONFIG."""
    from kubernetes_asyncio import config
    from kubernetes_asyncio.client import ApiClient

    if configuration.cluster_config:
        block = configuration.cluster_config
        return await config.new_client_from_config_dict(config_dict=block.config, context=block.context_name)
    try:
        config.load_incluster_config()
        return ApiClient()
    except config.ConfigException:
        return await config.new_client_from_config(config_file=os.environ.get("KUBECONFIG"))


def _namespace(name: str, found: _Answer) -> Check:
    if found.status == 404:
        return Check("namespace", False, f"there is no namespace {name!r}", f"`kubectl create namespace {name}`")
    if found.trouble:
        return Check("namespace", None, f"namespace {name!r} may not be looked at ({found.trouble})",
                     "the probe tells whether it is there")  # fmt: skip
    return Check("namespace", True, f"namespace {name!r} exists")


async def _rights(api: _Api, namespace: str) -> Check:
    answers = await asyncio.gather(*(_may(api, namespace, right) for right in _RIGHTS))
    words = [f"{verb} {resource}{'/' + sub if sub else ''}" for verb, _, resource, sub in _RIGHTS]
    denied = [word for word, may in zip(words, answers, strict=True) if may is False]
    if denied:
        return Check(
            "rights", False, f"these credentials may not {', '.join(denied)} in namespace {namespace!r}",
            "bind a Role with these verbs to the worker's user or service account (docs/pools.md has one)",
        )  # fmt: skip
    if None in answers:
        return Check("rights", None, "the cluster does not say what these credentials may do", "the probe tells")
    return Check("rights", True, "jobs may be created, followed and deleted, pods and their logs read")


async def _may(api: _Api, namespace: str, right: tuple[str, str, str, str]) -> bool | None:
    verb, group, resource, subresource = right
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    if subresource:
        attributes["subresource"] = subresource
    answer = await api.ask(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
         "spec": {"resourceAttributes": attributes}},
    )  # fmt: skip
    return None if answer.trouble else bool(answer.body.get("status", {}).get("allowed"))


async def _image(target: Target, nodes: dict[str, Any]) -> Check:
    image = target.pool.image
    spec = target.configuration.job_manifest["spec"]["template"]["spec"]["containers"][0]
    image, policy = spec.get("image") or image, spec.get("imagePullPolicy")
    there = any(
        _same(image, name)
        for node in nodes.get("items", [])
        for one in node["status"].get("images") or []
        for name in one.get("names") or []
    )
    if there and policy != "Always":
        return Check("image", True, f"a node has {image} already")
    if policy == "Never":
        return Check("image", None, f"no node says that it has {image}, and none may pull it", "the probe tells")
    asked = await registry.manifest(image)
    if asked.ok is False and "asks for credentials" in asked.said:  # the nodes may have some
        return Check("image", None, f"{asked.said}; the nodes may have other credentials", asked.mend)
    return asked


def _same(image: str, name: str) -> bool:
    return registry.parts(image) == registry.parts(name)


async def _probe(api: _Api, target: Target) -> list[Check]:
    """Run the probe as Prefect's worker would run a job; the job and its pod are removed whatever happens."""
    namespace, mark = target.configuration.namespace, f"{target.pool.name}-{uuid.uuid4().hex[:8]}"
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    made = await api.ask("POST", jobs, manifest(target, mark))
    if made.trouble:
        return [Check("probe", False, f"the cluster takes no job: {made.trouble}", "correct job_variables in the file")]
    name = made.body["metadata"]["name"]
    try:
        return await _followed(api, namespace, mark, target)
    finally:
        # Whoever asked may be cancelled meanwhile; the job goes all the same.
        await asyncio.shield(_removed(api, f"{jobs}/{name}", namespace, mark))


def manifest(target: Target, mark: str) -> dict[str, Any]:
    """The job that Prefect's worker would create, with the probe as its command and a label of its own.

    Args:
        target: The pool as its worker sees it.
        mark: Value of the label; no label of Prefect's is kept, as nothing of Prefect's is to be found by it.
    """
    job = json.loads(json.dumps(target.configuration.job_manifest))
    template = job["spec"]["template"]
    for metadata in (job["metadata"], template.setdefault("metadata", {})):
        metadata["labels"] = {_LABEL: mark}
    job["metadata"].pop("name", None)
    job["metadata"]["generateName"] = "volvox-check-"
    job["spec"] |= {"backoffLimit": 0, "ttlSecondsAfterFinished": 60, "activeDeadlineSeconds": int(_PROBE_SECONDS)}
    return job


async def _followed(api: _Api, namespace: str, mark: str, target: Target) -> list[Check]:
    pods, ends, last = f"/api/v1/namespaces/{namespace}/pods", time.monotonic() + _PROBE_SECONDS, "no pod was made"
    while time.monotonic() < ends:
        listed = await api.get(pods, [("labelSelector", f"{_LABEL}={mark}")])
        for pod in listed.body.get("items", []):
            done, last = look(pod, target.pool.image)
            if isinstance(done, Check):
                return [done]
            if done is not None:
                log = await api.get(f"{pods}/{pod['metadata']['name']}/log", [("tailLines", "50")])
                output = log.text or json.dumps(log.body)  # a log of nothing but the probe's line is read as JSON
                return probed(output, done, last)
        await asyncio.sleep(_LOOK_SECONDS)
    return [
        Check("probe", False, f"no pod ran within {_PROBE_SECONDS:.0f} s: {last}", "see `kubectl describe pod`, or try "
              "again when the cluster has a place")
    ]  # fmt: skip


def look(pod: dict[str, Any], image: str) -> tuple[Check | int | None, str]:
    """What a pod's status means: a check if it can never run, its exit code if it ended, None if it goes on.

    Args:
        pod: As the API gives it.
        image: To be named in a sentence.

    Returns:
        That, and what it waits for or why it ended.
    """
    status = pod.get("status", {})
    for one in status.get("containerStatuses") or []:
        state = one.get("state", {})
        if ended := state.get("terminated"):
            reason = ended.get("reason", "")
            said = "the pod ran out of memory" if reason == "OOMKilled" else ended.get("message", "")
            return int(ended.get("exitCode", 1)), said
        waiting = state.get("waiting", {})
        reason, said = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _NEVER:
            return _not_pulled(image, said or reason), said
        if reason in _NOT_MADE:
            return Check("probe", False, f"the pod's container cannot be made: {said or reason}",
                         "correct environment, volumes or job_variables in the pool's file"), said  # fmt: skip
        if reason:
            return None, f"{reason} {said}".strip()
    if status.get("phase") in ("Failed", "Succeeded"):
        said = f"{status.get('reason', '')}: {status.get('message', '')}".strip(": ")
        return Check("probe", False, f"the pod ended without a container: {said}", "see the cluster's events"), said
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return None, f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
    return None, status.get("phase", "the pod waits")


def _not_pulled(image: str, said: str) -> Check:
    low = said.lower()
    refused = any(word in low for word in ("unauthorized", "denied", "authentication", "no basic auth"))
    if refused and "does not exist" not in low:
        return Check("image", False, f"the registry refuses the nodes {image}: {said}",
                     "give the pool image_pull_secrets, or the namespace's service account")  # fmt: skip
    return Check("image", False, f"the nodes cannot pull {image}: {said}",
                 "push it where the nodes can pull it, or correct the pool's `image`")  # fmt: skip


async def _removed(api: _Api, job: str, namespace: str, mark: str) -> None:
    await api.ask("DELETE", job, {"propagationPolicy": "Background", "gracePeriodSeconds": 0})
    pods, ends = f"/api/v1/namespaces/{namespace}/pods", time.monotonic() + _REMOVE_SECONDS
    while time.monotonic() < ends:
        listed = await api.get(pods, [("labelSelector", f"{_LABEL}={mark}")])
        names = [pod["metadata"]["name"] for pod in listed.body.get("items", [])]
        if not names:
            return
        for name in names:
            with contextlib.suppress(Exception):
                await api.ask("DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})
        await asyncio.sleep(_LOOK_SECONDS)

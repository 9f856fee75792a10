from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.checks.check import Check
from deployments.checks.kubernetes import _RIGHTS, capacity, look, quantity
from tests.deployments.checks.conftest import ROOT, define, made, up
from volvox.pools.definition import Offers
from volvox.settings import Home


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("500m", 0.5), ("4Gi", 2**32), ("24684032Ki", 24684032 * 2**10), ("4G", 4e9), ("1e3", 1000), ("x", 0)],
)
def test_a_quantity_is_a_number(text: str, number: float) -> None:
    assert quantity(text) == number


def nodes(*allocatable: dict[str, str]) -> dict[str, Any]:
    return {"items": [{"status": {"allocatable": one}} for one in allocatable]}


def test_some_node_must_hold_all_that_is_offered() -> None:
    small, large = {"cpu": "2", "memory": "4Gi"}, {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"}
    [check] = capacity(nodes(small, large), "", Offers(cpu=8, memory_mb=32000, gpus=0))
    assert check.ok is True
    assert "1 of 2 nodes" in check.said
    # The cores of one node and the memory of another are no node.
    assert capacity(nodes({"cpu": "8", "memory": "1Gi"}, small), "", Offers(cpu=8, memory_mb=4096))[0].ok is False
    assert [one.ok for one in capacity(nodes(small, large), "", Offers(gpus=1))] == [True, True]
    assert [one.ok for one in capacity(nodes(small), "", Offers(gpus=1))] == [True, False]
    assert capacity({}, "403: no", Offers())[0].ok is None


def test_the_role_of_the_documentation_has_the_rights_that_are_checked() -> None:
    text = (ROOT / "docs" / "pools.md").read_text()
    role = yaml.safe_load(text.partition("kind: Role\n")[2].partition("```")[0])
    allowed = {
        (verb, group, *resource.partition("/")[::2])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == set(_RIGHTS)


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return pod(phase="Running", containerStatuses=[{"state": state}])


@pytest.mark.parametrize(
    ("reason", "message", "name", "said"),
    [
        ("ErrImagePull", "manifest unknown", "image", "cannot pull"),
        ("ImagePullBackOff", "unauthorized: authentication required", "image", "refuses the nodes"),
        ("ErrImagePull", "pull access denied for x, repository does not exist", "image", "cannot pull"),
        ("CreateContainerConfigError", 'secret "x" not found', "probe", 'secret "x" not found'),
    ],
)
def test_a_pod_that_never_runs_is_known_at_once(reason: str, message: str, name: str, said: str) -> None:
    found, _ = look(container(waiting={"reason": reason, "message": message}), "x:1")
    assert isinstance(found, Check)
    assert (found.name, found.ok) == (name, False)
    assert said in found.said


def test_a_pod_that_waits_goes_on_and_says_what_for() -> None:
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}
    assert look(pod(phase="Pending", conditions=[unschedulable]), "x") == (None, "Unschedulable: no cpu")
    assert look(container(waiting={"reason": "ContainerCreating"}), "x") == (None, "ContainerCreating")
    assert look(container(running={}), "x") == (None, "Running")


def test_a_pod_that_ended_gives_its_exit_code() -> None:
    assert look(container(terminated={"exitCode": 68}), "x") == (68, "")
    assert look(container(terminated={"exitCode": 137, "reason": "OOMKilled"}), "x") == (
        137, "the pod ran out of memory",
    )  # fmt: skip


def test_a_cluster_that_is_not_configured_ends_the_row(
    home: Home, no_services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    define(home, "kubernetes", "{type: kubernetes, image: x}")
    found = made("kubernetes", home)
    assert found["engine"].ok is False
    assert "KUBECONFIG" in found["engine"].mend
    assert "rights" not in found


def test_a_cluster_that_does_not_answer_ends_the_row(
    home: Home, no_services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(CONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    define(home, "kubernetes", "{type: kubernetes, image: x}")
    found = made("kubernetes", home)
    assert found["engine"].ok is False
    assert "https://127.0.0.1:9 does not answer" in found["engine"].said


CONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:9"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


@pytest.mark.k8s
class TestCluster:
    @pytest.fixture(autouse=True)
    def cluster(self, monkeypatch: pytest.MonkeyPatch) -> None:
        up("k8s", monkeypatch)

    @pytest.fixture
    def image(self, cluster, request: pytest.FixtureRequest) -> str:
        return request.getfixturevalue("probe_image")

    def left(self) -> list[str]:
        import subprocess

        told = subprocess.run(
            ["kubectl", "get", "jobs,pods", "-A", "-l", "volvox.check", "-o", "name"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return told.stdout.split()

    def test_all_is_well_and_neither_job_nor_pod_is_left(self, home: Home, image: str, services: str) -> None:
        define(home, "kubernetes", f"{{type: kubernetes, image: '{image}', job_variables: {{host_network: true}}}}")
        found = made("kubernetes", home)
        assert {name: check.said for name, check in found.items() if check.ok is not True} == {}
        assert {"rights", "namespace", "from inside: prefect", "from inside: store"} <= set(found)
        assert self.left() == []

    def test_what_a_pod_does_not_reach_is_told(self, home: Home, image: str, services: str) -> None:
        absent = home.root / "nowhere"
        define(home, "kubernetes", f"{{type: kubernetes, image: '{image}', environment: {{VOLVOX_STORE: {absent}}}}}")
        found = made("kubernetes", home)
        assert found["from inside: prefect"].ok is False
        assert found["from inside: mlflow"].ok is False
        assert self.left() == []

    def test_a_namespace_that_is_not_there_is_told_and_nothing_is_started(
        self, home: Home, image: str, services: str
    ) -> None:
        define(home, "kubernetes", f"{{type: kubernetes, image: '{image}', job_variables: {{namespace: absent}}}}")
        found = made("kubernetes", home)
        assert found["namespace"].ok is False
        assert found["namespace"].mend == "`kubectl create namespace absent`"
        assert "probe" not in found

    def test_an_image_that_is_nowhere_is_told_in_seconds(self, home: Home, services: str) -> None:
        define(home, "kubernetes", "{type: kubernetes, image: '127.0.0.1:5000/volvox/absent:1'}")
        found = made("kubernetes", home, probe=False)
        assert found["image"].ok is False

    def test_a_gpu_that_no_node_has_is_told(self, home: Home, image: str, services: str) -> None:
        define(home, "kubernetes", f"{{type: kubernetes, image: '{image}', offers: {{gpus: 1}}}}")
        found = made("kubernetes", home, probe=False)
        assert found["gpu"].ok is False
        assert "nvidia.com/gpu" in found["gpu"].said

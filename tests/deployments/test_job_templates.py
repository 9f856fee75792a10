from __future__ import annotations

import asyncio

import pytest

from deployments.job_templates import job_template
from volvox.errors import InvalidInput
from volvox.pools.definition import PoolDefinition
from volvox.pools.needs import Needs
from volvox.pools.requests import job_variables

VOLUMES = ("/data/store:/data/store", "claim:/models:ro")


def pool(kind: str, **more) -> PoolDefinition:
    image = {} if kind == "process" else {"image": "volvox/training:1"}
    return PoolDefinition(name="mine", type=kind, **image, **more)


def defaults(template: dict) -> dict:
    return {name: told.get("default") for name, told in template["variables"]["properties"].items()}


@pytest.mark.parametrize("kind", ["docker", "kubernetes", "ecs"])
def test_a_container_knows_its_pool_and_its_addresses_and_starts_prefects_engine(kind: str) -> None:
    told = defaults(job_template(pool(kind, environment={"B": "2"}), {"A": "1"}))
    assert told["image"] == "volvox/training:1"
    assert told["command"] == "python -m prefect.engine"
    assert told["env"] == {
        "PREFECT_HOME": None,
        "VOLVOX_HOME": "/tmp/volvox",
        "VOLVOX_POOL": "mine",
        "A": "1",
        "B": "2",
    }


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes", "ecs"])
def test_a_misspelt_variable_is_refused_with_the_near_one(kind: str) -> None:
    with pytest.raises(InvalidInput, match="did you mean 'command'"):
        job_template(pool(kind, job_variables={"comand": "x"}), {})


def test_a_pools_own_value_adds_to_ours_and_replaces_what_it_names() -> None:
    own = {"container_create_kwargs": {"init": False, "shm_size": "1g"}, "network_mode": "host"}
    told = defaults(job_template(pool("docker", job_variables=own), {}, user="1000:1000"))
    assert told["container_create_kwargs"] == {
        "init": False, "shm_size": "1g", "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"],
        "user": "1000:1000",
    }  # fmt: skip
    assert told["network_mode"] == "host"
    assert told["auto_remove"] is False


def test_a_run_that_asks_for_processors_keeps_the_user_and_the_lack_of_rights() -> None:
    from prefect_docker.worker import DockerWorkerJobConfiguration

    own = {"container_create_kwargs": {"shm_size": "1g"}}
    template = job_template(pool("docker", job_variables=own), {}, user="1000:1000")
    asked = job_variables(pool("docker"), Needs(cpu=1.5))
    made = asyncio.run(DockerWorkerJobConfiguration.from_template_and_values(template, asked, client=NotImplemented))
    assert made.container_create_kwargs == {
        "init": True, "shm_size": "1g", "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"],
        "user": "1000:1000", "nano_cpus": 1_500_000_000,
    }  # fmt: skip


def test_volumes_are_mounted_in_each_engines_words() -> None:
    assert defaults(job_template(pool("docker", volumes=VOLUMES), {}))["volumes"] == list(VOLUMES)
    pod = job_template(pool("kubernetes", volumes=VOLUMES), {}, user="7:8")["job_configuration"]["job_manifest"][
        "spec"
    ]["template"]["spec"]
    assert [volume.keys() - {"name"} for volume in pod["volumes"]] == [{"hostPath"}, {"persistentVolumeClaim"}]
    assert [mount["readOnly"] for mount in pod["containers"][0]["volumeMounts"]] == [False, True]
    assert pod["securityContext"] == {"runAsUser": 7, "runAsGroup": 8}
    task = job_template(pool("ecs", volumes=VOLUMES), {})["job_configuration"]["task_definition"]
    assert [volume.keys() - {"name"} for volume in task["volumes"]] == [{"host"}, {"efsVolumeConfiguration"}]


def test_a_pod_has_limits_for_gpus_and_no_rights() -> None:
    spec = job_template(pool("kubernetes"), {})["job_configuration"]["job_manifest"]["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"] == {"runAsNonRoot": True}
    assert (spec["completions"], spec["parallelism"]) == (1, 1)
    assert "completions" not in pod


def test_an_ecs_container_asks_for_gpus_as_ecs_does() -> None:
    definition = job_template(pool("ecs"), {})["job_configuration"]["task_definition"]
    assert definition["containerDefinitions"][0]["resourceRequirements"] == "{{ resource_requirements }}"


def test_the_worker_types_own_template_stays_as_it_is() -> None:
    job_template(pool("kubernetes", volumes=VOLUMES), {"A": "1"})
    again = job_template(pool("kubernetes"), {})
    assert "volumes" not in again["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]

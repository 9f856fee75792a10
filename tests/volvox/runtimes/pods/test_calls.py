"""Calls of scripts on a made-up cluster: what it says of their pods is told, and nothing of them is left."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.runtimes.pods import test_models
from tests.volvox.runtimes.pods.made_up import MadeUp
from tests.volvox.runtimes.pods.test_models import OnMadeUp
from volvox.runner.work import Work
from volvox.runtimes.pods.live_log import Log
from volvox.runtimes.pods.manifests import DISPATCHER

run = test_models.run


def deployed(bench: OnMadeUp, **more: Any) -> Any:
    settings = {"cluster_config": str(bench.cluster.config), **more.pop("settings", {})}
    return bench.deploy(bench.script("cat $INPUT_FILE_PATH", settings=settings, **more))


@pytest.mark.parametrize(
    ("told", "kind", "said"),
    [
        ({"container": {"exitCode": 137, "reason": "OOMKilled"}}, "memory", "lack of memory (it may use 300 MB)"),
        (
            {"container": {"exitCode": 137, "reason": "Error"},
             "status": {"reason": "Evicted", "message": 'Usage of EmptyDir volume "work" exceeds the limit "10Gi"'}},
            "storage", "exceeds the limit",
        ),
        (
            {"container": {"exitCode": 137, "reason": "Error"},
             "status": {"reason": "Evicted", "message": "The node was low on resource: memory"}},
            "gone", "Evicted: The node was low",
        ),
        (
            {"container": {"exitCode": 128, "reason": "StartError", "message": 'exec: "/bin/sh": no such file'}},
            "failed", "has no /bin/sh",
        ),
        ({"container": {"exitCode": 125, "reason": "Error"}}, "failed", "no mkfifo or no tee"),
    ],
)  # fmt: skip
def test_what_becomes_of_its_pod_is_told(run, told: dict[str, Any], kind: str, said: str) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        cluster.ended["script-image"] = told
        await deployed(bench, image="script-image", resources={"memory_mb": 300})
        outcome = await bench.ask()
        assert (outcome.kind, said in outcome.reason) == (kind, True), outcome
        assert cluster.all("jobs") == []

    run(test)


def test_an_image_that_is_refused_and_a_quota_are_tried_again(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        cluster.refused.add("script-image")
        await deployed(bench, image="script-image")
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "script-image" in outcome.reason
        cluster.quota = "exceeded quota: small"
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "exceeded quota: small" in outcome.reason
        for key in [key for key in cluster.objects if key[0] == "events"]:
            del cluster.objects[key]

    run(test)


def test_a_pod_that_never_runs_is_given_up_and_one_that_is_cancelled_leaves_nothing(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await deployed(bench, image="pending", settings={"start_seconds": 1})
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "no pod ran it within 1 s" in outcome.reason
        await deployed(bench, image="pending")
        asked = asyncio.create_task(bench.ask())
        while not cluster.all("jobs"):
            await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled() and cluster.all("jobs") == []

    run(test)


def test_nothing_of_a_call_is_written_to_the_cluster(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await deployed(bench, image="pending", environment={"TOKEN": "hidden"}, settings={"start_seconds": 1})
        await bench.invoke(bench.call("the content", event='{"the": "event"}', arguments={"top": "argued"}))
        assert cluster.bodies
        for text in ("hidden", "the content", "the event", "argued", "INPUT_FILE_PATH"):
            assert text not in "\n".join(cluster.bodies)

    run(test)


def test_the_job_of_a_dispatcher_that_is_gone_is_removed_by_the_next_and_others_are_not(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await deployed(bench, image="pending")
        asked = asyncio.create_task(bench.ask())
        while not cluster.all("jobs"):
            await asyncio.sleep(0.01)
        [mine] = cluster.all("jobs")
        for name, dispatcher in (("killed", "0" * 12 + ".1.2"), ("dead", mine["metadata"]["labels"][DISPATCHER] + "9")):
            job = json.loads(json.dumps(mine))
            job["metadata"]["name"] = name
            job["metadata"]["labels"][DISPATCHER] = dispatcher
            cluster.objects["jobs", "default", name] = job
        again = bench.made()
        settings = {"cluster_config": str(cluster.config)}
        await again.deploy(bench.script("echo", name="another", image="pending", settings=settings), version="1")
        assert [one["metadata"]["name"] for one in cluster.all("jobs")] == [mine["metadata"]["name"]]
        await again.remove("another")
        await again.close()
        asked.cancel()
        await asyncio.wait([asked])

    run(test)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_log_ends_where_both_streams_have_said_so_however_it_is_cut(tmp_path: Path, size: int) -> None:
    text = b"a \x1e line\nand \x1eTOK\x1e no end\nlast\x1eTOKEN\x1e\n\x1eno such file\n\x1eTOKEN\x1e\nnever"
    log = Log(Work(folder="", output="", log=str(tmp_path / "log")), "\x1eTOKEN\x1e")
    for at in range(0, len(text), size):
        log.add(text[at : at + size])
    written = b"a \x1e line\nand \x1eTOK\x1e no end\nlast\x1eno such file\n"
    assert log.over and (tmp_path / "log").read_bytes() == written


def test_a_log_that_never_says_that_it_is_over_is_kept_whole(tmp_path: Path) -> None:
    log = Log(Work(folder="", output="", log=str(tmp_path / "log")), "\x1eTOKEN\x1e")
    log.add(b"one\n\x1eTOKEN\x1e\ntwo\x1eTOKEN")
    log.rest()
    assert not log.over and (tmp_path / "log").read_bytes() == b"one\ntwo\x1eTOKEN"

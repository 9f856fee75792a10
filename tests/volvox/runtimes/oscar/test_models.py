"""Models in a cluster: exposed services, what is written of them, and what becomes of calls when something fails."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path

import httpx
import pytest

from tests.volvox.runtimes.benches import NAME, Oscar, outputs
from tests.volvox.runtimes.oscar.cluster import Fault
from tests.volvox.runtimes.oscar.test_jobs import its, until
from volvox.errors import AccessRefused, InvalidInput, ModuleFailed
from volvox.runtimes import Call


def answered(call: Call) -> dict:
    (text,) = outputs(call).values()
    return json.loads(text)["predictions"]


def only(bench: Oscar) -> str:
    (name,) = bench.server.services
    return name


def test_deployed_again_nothing_is_written_and_what_is_changed_is_mended(run) -> None:
    async def test(bench: Oscar) -> None:
        function = bench.function(
            scaling={"max_scale": 2}, settings={"visibility": "restricted", "allowed_users": ["u"]}
        )
        await bench.deploy(function)
        service = only(bench)
        body = bench.server.body(service)
        assert body["image"] == "registry/tiny@sha256:1" and body["visibility"] == "restricted"
        assert (body["expose"]["min_scale"], body["expose"]["max_scale"], body["expose"]["set_auth"]) == (1, 2, True)
        assert "synchronous" not in body and "output" not in body
        await bench.deploy(function)
        other = bench.made()
        await other.deploy(function, version=function.version)
        assert (await other.invoke(NAME, [bench.call()]))[0].kind == ""
        await other.close()
        assert await its(bench).doubts(NAME) == [] and bench.server.writes == [f"POST {service}"]
        await bench.runtime.scale(NAME, 2)
        other = bench.made()
        assert body is not bench.server.body(service) and bench.server.body(service)["expose"]["min_scale"] == 2
        assert await other.doubts(NAME) == []  # type: ignore[attr-defined]
        await other.close()
        body = bench.server.body(service)
        body["image"] = "somebody/else"
        (told,) = await its(bench).doubts(NAME)
        assert told == f"image of the service {service} is not as it was made"
        assert await its(bench).repair(NAME) == [told] and await its(bench).doubts(NAME) == []
        assert (await bench.ask()).kind == ""  # with the token that it has since then

    run(test)


def test_the_answer_is_the_model_s_and_a_wrong_token_gives_none(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.function())
        call = bench.call(arguments={"top": 3})
        assert (await bench.invoke(call))[0].kind == "" and answered(call)["top"] == 3
        async with httpx.AsyncClient(trust_env=False, auth=(only(bench), "0" * 64)) as http:
            url = f"{bench.server.endpoint}/system/services/{only(bench)}/exposed/health/ready"
            assert (await http.get(url)).status_code == 401

    run(test)


def test_what_others_send_to_the_service_is_answered_by_the_model(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.function())
        headers = {"Authorization": f"Bearer {bench.server.body(only(bench))['token']}"}
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            url = f"{bench.server.endpoint}/run/{only(bench)}"
            told = await http.post(url, content=base64.b64encode(b"fine"), headers=headers)
        assert json.loads(base64.b64decode(told.text))["version"] == "1"

    run(test)


def test_instances_that_the_cluster_takes_away_come_again_and_no_call_has_to_be_tried_again(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.function())
        asked = asyncio.create_task(bench.ask("sleep 20"))
        await asyncio.sleep(0.5)
        bench.server.lose_replicas(only(bench))
        outcome = await asked
        assert outcome.kind == "gone" and "did not answer" in outcome.reason
        assert [one.kind for one in await bench.invoke(*(bench.call() for _ in range(4)))] == [""] * 4

    run(test)


def test_a_service_that_was_stopped_or_deleted_from_outside_is_started_or_made_again(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.function())
        await bench.asked("POST", f"/system/services/{only(bench)}/stop")
        assert (await bench.ask()).kind == "gone" and (await bench.ask()).kind == ""
        await bench.server_removed(only(bench))
        assert (await bench.ask()).kind in ("gone", "transient") and (await bench.ask()).kind == ""
        await bench.server_removed(only(bench))
        assert "is gone" in (await its(bench).doubts(NAME))[0]
        await bench.deploy(bench.function())
        assert await its(bench).doubts(NAME) == []

    run(test)


def test_a_version_that_fails_leaves_nothing_and_a_new_one_takes_the_place_of_the_old(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.function("1"))
        first = only(bench)
        with pytest.raises(ModuleFailed, match="these weights cannot be read"):
            await bench.deploy(bench.function("broken"))
        bench.server.faults = [Fault("POST /system/services$", 403)]
        with pytest.raises(AccessRefused, match="403 for POST /system/services"):
            await bench.deploy(bench.function("2"))
        assert only(bench) == first
        await bench.deploy(bench.function("2"))
        assert only(bench) != first
        call = bench.call()
        assert (await bench.invoke(call))[0].kind == "" and answered(call)["version"] == "2"

    run(test)


_DEPLOY = """
import asyncio, pathlib, sys
from tests.volvox.runtimes.tiny import TinyModels, image_of
from volvox.functions.definition import Function
from volvox.runtimes.oscar import OscarRuntime

async def main():
    folder = pathlib.Path(sys.argv[1])
    models = TinyModels(folder / "models")
    for version in ("1", "2"):
        models.images[version] = image_of(version, "").model_copy(update={"pushed": f"registry/tiny@sha256:{version}"})
    runtime = OscarRuntime(folder / "runtime", models)
    function = Function.model_validate_json(sys.argv[2])
    await runtime.deploy(function, version=function.version)

asyncio.run(main())
"""


@pytest.mark.parametrize("version", ["1", "2"])
def test_killed_while_it_deployed_the_next_one_completes_and_leaves_no_orphan(run, version: str) -> None:
    async def test(bench: Oscar) -> None:
        root = Path(__file__).parents[4]
        paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DEPLOY, str(bench.folder), bench.function(version).model_dump_json(),
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        await until(lambda: bench.server.services)
        process.kill()
        await process.wait()
        half = only(bench)
        await bench.deploy(bench.function("2"))
        assert (await bench.ask()).kind == ""
        assert (only(bench) == half) == (version == "2") and await its(bench).doubts(NAME) == []

    run(test)


def test_a_model_without_an_image_in_a_registry_is_refused(run) -> None:
    async def test(bench: Oscar) -> None:
        bench.models.images["1"] = bench.models.images["1"].model_copy(update={"pushed": ""})
        with pytest.raises(InvalidInput, match="VOLVOX_REGISTRY"):
            await bench.deploy(bench.function())
        del bench.models.images["1"]
        with pytest.raises(InvalidInput, match="has no serving image"):
            await bench.deploy(bench.function())
        assert bench.server.writes == []

    run(test)


def test_two_folders_know_nothing_of_each_other(run, tmp_path: Path) -> None:
    async def test(bench: Oscar) -> None:
        from volvox.runtimes.oscar import OscarRuntime

        await bench.deploy(bench.function())
        other = OscarRuntime(tmp_path / "another", bench.models)
        await other.deploy(bench.function("2"), version="2")
        assert len(bench.server.services) == 2
        await other.remove(NAME)
        await other.close()
        assert len(bench.server.services) == 1 and (await bench.ask()).kind == ""

    run(test)

"""What is particular to containers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import engine_environment
from tests.volvox.runtimes.benches import NAME, Docker
from volvox.errors import InvalidInput, Unavailable
from volvox.runtimes.docker import DockerRuntime


def test_without_an_engine_that_is_said_when_a_function_is_deployed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def test() -> None:
        bench = Docker(tmp_path)
        bench.runtime = DockerRuntime(tmp_path / "runtime", bench.models)
        with pytest.raises(Unavailable, match="no container engine is installed"):
            await bench.deploy(bench.script("echo"))
        with pytest.raises(Unavailable, match="no container engine is installed"):
            await bench.deploy(bench.function())
        await bench.close()

    asyncio.run(test())


@pytest.mark.docker
def test_an_image_or_a_model_without_one_is_told(tmp_path: Path) -> None:
    engine_environment(["docker"])

    async def test() -> None:
        bench = Docker(tmp_path)
        with pytest.raises(InvalidInput, match="has no serving image"):
            await bench.deploy(bench.function())
        await bench.deploy(bench.script("echo", image="127.0.0.1:5000/volvox-tests/no-such-image:1"))
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "no-such-image" in outcome.reason
        await bench.close()

    asyncio.run(test())


@pytest.mark.docker
def test_a_script_s_container_may_do_little(tmp_path: Path) -> None:
    engine_environment(["docker"])

    async def test() -> None:
        bench = Docker(tmp_path)
        script = """#!/usr/bin/env python3
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
told = {"privileges": status["NoNewPrivs"].strip(), "capabilities": int(status["CapEff"], 16)}
for place in ("/volvox/input/x", "/volvox/script"):
    try:
        open(place, "a")
    except OSError as error:
        told[place] = error.strerror
print(json.dumps(told))
"""
        await bench.deploy(bench.script(script, resources={"cpu": 0.5}))
        told = json.loads((await bench.ask()).printed)
        assert told["privileges"] == "1" and told["capabilities"] & (1 << 21) == 0  # CAP_SYS_ADMIN
        assert told["/volvox/input/x"] == told["/volvox/script"] == "Read-only file system"
        await bench.deploy(bench.script("id -u; touch $TMP_OUTPUT_DIR/a", settings={"user": "1234:1234"}))
        outcome = await bench.ask()
        assert (outcome.kind, outcome.printed) == ("", "1234\n")
        await bench.close()
        assert await bench.left() == []

    asyncio.run(test())


@pytest.mark.docker
def test_the_container_of_a_call_whose_dispatcher_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    engine_environment(["docker"])
    code = f"""
import asyncio
from pathlib import Path
from tests.volvox.runtimes.benches import Docker

async def main():
    bench = Docker(Path({str(tmp_path)!r}))
    await bench.deploy(bench.script("echo begun; sleep 1000"))
    call = bench.call()
    asked = asyncio.create_task(bench.invoke(call))
    while not (call.log.exists() and call.log.read_text()):
        await asyncio.sleep(0.05)
    print("there", flush=True)
    await asked

asyncio.run(main())
"""
    root = Path(__file__).parents[3]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    )
    assert process.stdout is not None and process.stdout.readline() == b"there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()

    async def test() -> None:
        bench = Docker(tmp_path / "again")
        bench.runtime = DockerRuntime(tmp_path / "runtime", bench.models, engine="docker")
        assert len(await bench.left()) == 1
        await bench.deploy(bench.script("echo another"))
        assert await bench.left() == [] and (await bench.status()).state == "ready"
        await bench.runtime.remove(NAME)
        await bench.runtime.close()

    asyncio.run(test())

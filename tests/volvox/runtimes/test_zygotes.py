"""Workers that are forked from a process with their libraries."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.volvox.runtimes.benches import NAME, Local, processes_with
from tests.volvox.runtimes.tiny import write_tiny
from volvox.runtimes.local import LocalRuntime
from volvox.runtimes.zygotes import Zygote, Zygotes


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a coroutine function with the local runtime."""
    monkeypatch.setenv("PYTHONPATH", str(write_tiny(tmp_path / "site")))

    def run(test) -> None:
        async def with_bench() -> None:
            made = Local(tmp_path)
            try:
                await test(made)
            finally:
                await made.close()
            assert not await made.left()

        asyncio.run(with_bench())

    return run


def parent_of(pid: str) -> str:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("PPid")]
    return line.split()[1]


def test_a_cold_start_is_forked_from_a_process_that_has_the_libraries_and_not_the_module(bench) -> None:
    async def test(made: Local) -> None:
        await made.deploy(made.function())
        (first,) = (await made.status()).instances
        assert parent_of(first.id) == str(os.getpid())
        told = json.loads((made.folder / "runtime" / NAME / "deployed.json").read_text())
        assert "marshmallow.fields" in told["libraries"] and "json" in told["libraries"]
        assert not [name for name in told["libraries"] if name.startswith(("tiny_function", "volvox", "image_classif"))]
        await made.runtime.scale(NAME, 0)
        await made.until(lambda status: not status.instances)
        assert (await made.ask()).kind == ""
        (second,) = (await made.status()).instances
        assert Path(f"/proc/{parent_of(second.id)}/cmdline").read_bytes().split(b"\0")[2] == b"zygote"
        assert os.getsid(int(second.id)) == int(second.id)

    bench(test)


def test_what_the_dispatcher_left_when_it_was_killed_ends_with_it(tmp_path: Path) -> None:
    site = write_tiny(tmp_path / "site")
    code = f"""
import asyncio
from pathlib import Path
from tests.volvox.runtimes.benches import NAME, Local

async def main():
    made = Local(Path({str(tmp_path)!r}))
    await made.deploy(made.function())
    await made.runtime.scale(NAME, 0)
    await made.until(lambda status: not status.instances)
    await made.ask()
    print("there", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

    async def kill() -> None:
        root = Path(__file__).parents[3]
        paths = [str(site), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, env=env, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None and await process.stdout.readline() == b"there\n"
        assert len(processes_with(str(tmp_path))) >= 3
        process.send_signal(signal.SIGKILL)
        await process.wait()

    asyncio.run(kill())
    deadline = time.monotonic() + 5
    while processes_with(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(str(tmp_path)) == []


def test_a_zygote_that_dies_takes_its_instances_and_the_next_call_is_answered(bench) -> None:
    async def test(made: Local) -> None:
        await made.deploy(made.function())
        await made.runtime.scale(NAME, 0)
        await made.until(lambda status: not status.instances)
        assert (await made.ask()).kind == ""
        (instance,) = (await made.status()).instances
        asked = asyncio.create_task(made.ask("sleep 20"))
        await asyncio.sleep(0.2)
        os.kill(int(parent_of(instance.id)), signal.SIGKILL)
        assert (await asked).kind == "gone"
        assert (await made.ask()).kind == ""

    bench(test)


def test_a_second_dispatcher_of_the_folder_knows_what_to_import(bench) -> None:
    async def test(made: Local) -> None:
        await made.deploy(made.function())
        await made.runtime.close()
        made.runtime = made.made()
        assert (await made.status()).version == made.function().version
        assert (await made.ask()).kind == ""
        (instance,) = (await made.status()).instances
        assert parent_of(instance.id) != str(os.getpid())

    bench(test)


def test_a_library_that_starts_a_thread_is_imported_after_the_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    (tmp_path / "odd_library.py").write_text(thread)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def test() -> None:
        zygotes = Zygotes(tmp_path / "zygotes")
        key = zygotes.prepare("", ["json", "odd_library", "no_such_library"])
        zygote = zygotes.get(key)
        assert zygote is not None
        await zygote.starting
        assert zygotes.get(key) is zygote and zygote.why_not == ""
        assert json.loads((tmp_path / "zygotes" / f"{key}.json").read_text()) == ["json", "no_such_library"]
        await zygotes.close()
        assert processes_with(str(tmp_path)) == []

    asyncio.run(test())


def test_where_nothing_can_be_forked_that_is_said_and_workers_are_started_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "odd_library.py").write_text("import os\nos._exit(1)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(write_tiny(tmp_path / "site")), str(tmp_path)]))

    async def test() -> None:
        made = Local(tmp_path)
        runtime = made.runtime
        assert isinstance(runtime, LocalRuntime)
        await made.deploy(made.function())
        runtime._get(NAME).libraries = ["odd_library"]
        await made.runtime.scale(NAME, 0)
        await made.until(lambda status: not status.instances)
        assert (await made.ask()).kind == "" and (await made.ask()).kind == ""
        await made.close()
        assert not await made.left()

    asyncio.run(test())
    assert "ended while its libraries were imported" in caplog.text


def test_one_of_which_something_was_installed_since_is_not_used(tmp_path: Path, monkeypatch) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(site))

    async def test() -> None:
        (tmp_path / "names.json").write_text('["json"]')
        zygote = Zygote("", tmp_path / "names.json", tmp_path / "log")
        await zygote.starting
        assert not zygote.why_not and not zygote.stale()
        (site / "another-1.0.dist-info").mkdir()
        assert zygote.stale()
        await zygote.end()

    asyncio.run(test())


def test_only_the_last_used_few_are_kept(tmp_path: Path) -> None:
    async def test() -> None:
        zygotes = Zygotes(tmp_path, most=2)
        keys = [zygotes.prepare("", [name]) for name in ("json", "csv", "bz2")]
        assert [bool(zygotes.get(key)) for key in keys] == [False, True, True]
        await zygotes.close()
        assert processes_with(str(tmp_path)) == []

    asyncio.run(test())

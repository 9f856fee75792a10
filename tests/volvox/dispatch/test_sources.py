"""What the sweep tells the inbox, of functions that events of their own call too."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.volvox.dispatch.conftest import Site, function, opened
from volvox.dispatch import sources
from volvox.dispatch.sources import Sources
from volvox.functions import registry
from volvox.runtimes.aws import queues


@pytest.mark.parametrize("trigger", ["inbox", "direct"])
def test_new_files_of_a_function_that_is_called_without_us_are_left_to_those_calls_for_a_while(
    site: Site, monkeypatch: pytest.MonkeyPatch, trigger: str
) -> None:
    monkeypatch.setenv("VOLVOX_SWEEP_SECONDS", "0.2")
    made = function(site, trigger=trigger, runtime="lambda", timeout_seconds=60)
    registry.apply_all(site.home, [made], source=[""])
    for name, age in (("old.png", 60 + sources._DIRECT_SECONDS + 30), ("new.png", 30)):
        (site.source / name).write_bytes(b"abc")
        os.utime(site.source / name, (time.time() - age,) * 2)

    async def check() -> set[str]:
        running = asyncio.create_task(Sources(site.home, site.inbox, opened).run())
        deadline, seen = time.monotonic() + 10, set()
        while time.monotonic() < deadline and len(seen) < (2 if trigger == "inbox" else 1):
            seen = {one.arrival.key for one in site.inbox.arrivals(10)}
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.6)  # two more sweeps
        seen = {one.arrival.key for one in site.inbox.arrivals(10)}
        running.cancel()
        await asyncio.wait([running])
        return seen

    assert asyncio.run(check()) == ({"old.png", "new.png"} if trigger == "inbox" else {"old.png"})


def test_queues_are_those_of_what_is_deployed_on_aws(site: Site) -> None:
    told = {"function": function(site, runtime="lambda").model_dump(mode="json"), "queue": "https://sqs/1"}
    for folder, queue in (("lambda/f", "https://sqs/1"), ("lambda-batch/batch/g", "https://sqs/2"), ("ecs/h", "")):
        path = Path(site.home.root, "dispatch", folder, "deployed.json")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({**told, "queue": queue}))
    (site.home.root / "dispatch" / "batch" / "broken").mkdir(parents=True)
    (site.home.root / "dispatch" / "batch" / "broken" / "deployed.json").write_text("{")
    assert set(queues.of_home(site.home)) == {"https://sqs/1", "https://sqs/2"}
    (site.home.root / "dispatch" / "lambda" / "f" / "deployed.json").unlink()
    assert set(queues.of_home(site.home)) == {"https://sqs/2"}

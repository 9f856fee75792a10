"""A dispatcher with the local runtime in a process of its own, to be killed: HOME IN OUT MODELS [BATCH]."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from tests.volvox.dispatch.conftest import opened
from tests.volvox.runtimes.tiny import TinyModels
from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.doing import Applied
from volvox.dispatch.sources import Sources
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import open_inbox
from volvox.places import split
from volvox.runtimes.local import LocalRuntime
from volvox.settings import Home


async def main(home: Home, source: str, target: str, models: str) -> None:
    told = {"name": "f", "model": "tiny/1", "runtime": "local", "scaling": {"batch": 32}}
    function = Function.model_validate({**told, "inputs": [{"url": source}], "outputs": [{"url": target}]})
    registry.apply(home, function)
    inbox = open_inbox(home)
    runtime = LocalRuntime(home.folder("dispatch", "local"), TinyModels(Path(models)))
    dispatcher = Dispatcher(home, inbox, runtimes={"local": runtime}, open_place=opened, split=split)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, dispatcher.end)
    await dispatcher.deploy(Applied(function, function.version))
    sources = asyncio.create_task(Sources(home, inbox, opened).run())
    print("ready", flush=True)
    await dispatcher.run()
    sources.cancel()
    await asyncio.gather(sources, return_exceptions=True)
    inbox.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(Home(Path(sys.argv[1])), *sys.argv[2:5]))

"""Start the processes of one training on this node: `python -m volvox.distributed.launch [options] -- command...`.

Each process gets `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `NODE_RANK`, `GROUP_RANK`, `MASTER_ADDR` and
`MASTER_PORT`, as torchrun gives them. On several nodes each one starts this command with its own `--node-rank`, which
Kubernetes gives in a pod of an Indexed Job. When one process fails, or a node is gone, all others are ended; the exit
code is that of the failure that was the first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from volvox.distributed import nodes
from volvox.distributed.failures import Failure
from volvox.distributed.nodes import Alone, Group
from volvox.distributed.ranks import Ranks
from volvox.errors import InvalidInput, VolvoxError
from volvox.worker.__main__ import end_with_parent

TOKEN = "VOLVOX_RENDEZVOUS_TOKEN"  # noqa: S105 - the name of the variable that holds it
_INDEX = "JOB_COMPLETION_INDEX"
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
_SETTLE_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit code of the first failure, 0 if there was none."""
    options, command = _options(sys.argv[1:] if arguments is None else arguments)
    if options.parent:
        end_with_parent(options.parent)
    try:
        group = _group(options)
        _check(command)
        failure = asyncio.run(run(group, command))
    except VolvoxError as error:
        print(f"volvox.distributed: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    if options.report:
        _report(options.report, failure)
    if failure is None:
        return 0
    print(f"volvox.distributed: {failure}; all others were ended", file=sys.stderr, flush=True)
    return failure.exit_code or 1


async def run(group: Group, command: list[str]) -> Failure | None:
    """Start `command` in each process of this node and wait for the end of all nodes.

    Returns:
        The failure that was the first, if there was one; no process of this node is left.

    Raises:
        Unavailable: If the nodes do not meet in time.
        InvalidInput: If node 0 refuses this one.
    """
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    peers = nodes.of(group)
    ranks: Ranks | None = None

    def signalled(number: int) -> None:
        if number in _PASSED_ON:
            if ranks:
                ranks.pass_on(number)
        elif not stopped.done():
            stopped.set_result(number)

    for number in (*_ENDING, *_PASSED_ON):
        asyncio.get_running_loop().add_signal_handler(number, signalled, number)
    try:
        meeting = asyncio.ensure_future(peers.meet())
        await asyncio.wait([meeting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not meeting.done():
            meeting.cancel()
            return _stop(group, stopped.result())
        environments = [_environment(group, local, meeting.result()) for local in range(group.processes)]
        world = group.nodes * group.processes
        ranks = Ranks(group.node, command, environments, first=group.node * group.processes, named=world > 1)
        return await _watched(group, ranks, peers, stopped)
    finally:
        if ranks:
            await ranks.end()
        await peers.close()


async def _watched(group: Group, ranks: Ranks, peers: Alone, stopped: asyncio.Future[int]) -> Failure | None:
    await ranks.start()
    own = asyncio.create_task(ranks.finished())
    trouble = asyncio.create_task(peers.trouble.wait())
    try:
        await asyncio.wait([own, trouble, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            failures = [_stop(group, stopped.result()), *await ranks.end(stopped.result())]
        elif own.done():
            failures = own.result()
            if not failures:
                return await _all_done(group, peers, stopped)
        else:
            await asyncio.wait([own], timeout=_SETTLE_SECONDS)
            failures = own.result() if own.done() else await ranks.end()
        return await peers.settle(failures)
    finally:
        for task in (own, trouble):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _all_done(group: Group, peers: Alone, stopped: asyncio.Future[int]) -> Failure | None:
    """The processes here are done; those of the other nodes may still fail, or this one be stopped."""
    done = asyncio.ensure_future(peers.done())
    await asyncio.wait([done, stopped], return_when=asyncio.FIRST_COMPLETED)
    if done.done():
        return done.result()
    done.cancel()
    return await peers.settle([_stop(group, stopped.result())])


def _stop(group: Group, number: int) -> Failure:
    # Who is stopped from outside was not ended by another's failure; as the node's own end it counts before those.
    return Failure(f"was stopped by {signal.Signals(number).name}", group.node, code=-number)


def _environment(group: Group, local: int, port: int) -> dict[str, str]:
    environment = {
        **os.environ,
        "RANK": str(group.node * group.processes + local),
        "WORLD_SIZE": str(group.nodes * group.processes),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(group.processes),
        "NODE_RANK": str(group.node),
        "GROUP_RANK": str(group.node),
        "MASTER_ADDR": group.host if group.node else "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONUNBUFFERED": "1",  # or what a killed process had to say would be lost
    }
    environment.pop(TOKEN, None)
    if group.processes > 1:  # each would take all processors otherwise, and wait for the others on all of them
        processors = len(os.sched_getaffinity(0))
        environment.setdefault("OMP_NUM_THREADS", str(max(1, processors // group.processes)))
    return environment


def _options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m volvox.distributed.launch", description="Start the processes of one training.",
        usage="%(prog)s [options] -- command...",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=1, help="processes on each node (1)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes (1)")
    parser.add_argument("--node-rank", type=int, help=f"number of this node, from 0 (NODE_RANK, {_INDEX}, or 0)")
    parser.add_argument("--rendezvous", default="", metavar="HOST:PORT", help="where the nodes reach node 0")
    parser.add_argument("--master-port", type=int, default=0, help="where rank 0 listens for the others (any free one)")
    parser.add_argument(
        "--wait-seconds", type=float, default=300.0, help="how long the nodes wait for each other (300)"
    )
    parser.add_argument("--report", type=Path, help="file that gets the first failure as JSON")
    parser.add_argument("--parent", type=int, default=0, help="process to die with")
    own, divider, command = (
        (arguments[: arguments.index("--")], True, arguments[arguments.index("--") + 1 :])
        if "--" in arguments
        else (arguments, False, [])
    )
    options = parser.parse_args(own)
    if not divider or not command:
        parser.error("give the command that each process runs, after --")
    return options, command


def _group(options: argparse.Namespace) -> Group:
    """What the options and the environment say, checked."""
    for name, value in (("--nodes", options.nodes), ("--processes", options.processes)):
        if value < 1:
            raise InvalidInput(f"{name} is {value}; it takes at least one")
    node = options.node_rank
    if node is None:
        told = os.environ.get("NODE_RANK") or os.environ.get(_INDEX) or "0"
        if not told.isdecimal():
            raise InvalidInput(f"the number of this node is {told!r}; it is a whole number from 0")
        node = int(told) if options.nodes > 1 else 0
    if not 0 <= node < options.nodes:
        raise InvalidInput(f"this is node {node} of {options.nodes}; nodes count from 0 to {options.nodes - 1}")
    host, colon, port = options.rendezvous.rpartition(":")
    if options.nodes > 1:
        if not (colon and port.isdecimal() and 0 < int(port) < 65536 and (host or not node)):
            raise InvalidInput(
                f"--rendezvous is {options.rendezvous!r}; on several nodes it is the address and the port of node 0, "
                "such as 10.0.0.7:29500"
            )
        if not os.environ.get(TOKEN):
            raise InvalidInput(f"{TOKEN} is not set; set it to one secret text on all nodes, or anybody could join")
    return Group(
        options.nodes, node, options.processes, host.strip("[]") or "0.0.0.0",  # noqa: S104 - where node 0 listens
        int(port or 0), options.master_port, os.environ.get(TOKEN, ""), options.wait_seconds,
    )  # fmt: skip


def _check(command: list[str]) -> None:
    if not shutil.which(command[0]):
        raise InvalidInput(f"there is no command {command[0]!r} here; give one that can be executed")


def _report(path: Path, failure: Failure | None) -> None:
    aside = path.with_name(f"{path.name}.part")
    aside.write_text(json.dumps(failure.to_json() if failure else None))
    aside.replace(path)


if __name__ == "__main__":
    sys.exit(main())

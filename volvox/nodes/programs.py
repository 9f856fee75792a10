"""Nodes that an operator's own programs start, list and stop: Wake-on-LAN, IPMI, any cloud's command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from volvox.errors import InvalidInput, Unavailable
from volvox.nodes.cloud import SEEN_STATES, Seen
from volvox.nodes.group import Commands

_LARGEST_BYTES = 1 << 20
_SAID = 300


class Programs:
    """The commands of one group; they are run without a shell, and ended when their time is over."""

    named = True

    def __init__(self, group: str, commands: Commands) -> None:
        """Nothing is run yet."""
        self._group, self._commands = group, commands
        self.answers_seconds = commands.seconds

    async def nodes(self) -> list[Seen]:
        """As `Cloud.nodes`: a line a node, `NAME STATE INSTANCES`; the rest of a line is what else is said of it."""
        found: dict[str, Seen] = {}
        for number, line in enumerate((await self._run(self._commands.listing)).splitlines(), 1):
            if not (words := line.split(maxsplit=3)):
                continue
            where = f"line {number} of what `{' '.join(self._commands.listing)}` printed for node group {self._group!r}"
            name, state, count = [*words, "", ""][:3]
            if state not in SEEN_STATES or (count and not count.isdecimal()):
                raise InvalidInput(
                    f"{where} is {line[:_SAID]!r}; print NAME STATE INSTANCES, where STATE is one of "
                    f"{', '.join(SEEN_STATES)} and INSTANCES how many instances are on the node"
                )
            if name in found:
                raise InvalidInput(f"{where} names {name!r} a second time; print a line for each node")
            found[name] = Seen(name, state, int(count) if count else None, words[3].strip() if len(words) > 3 else "")
        return [*found.values()]

    async def start(self, name: str, total: int) -> None:  # noqa: ARG002 - `total` is for clouds that count
        """As `Cloud.start`."""
        await self._run([*self._commands.start, name])

    async def leave(self, node: str) -> str:
        """As `Cloud.leave`: looked at once more, as nothing can be kept away from it here."""
        for seen in await self.nodes():
            if seen.id == node and seen.state == "on" and seen.at_work != 0:
                return "nobody tells whether it is at work" if seen.at_work is None else "it was given work meanwhile"
        return ""

    async def stay(self, node: str) -> None:
        """As `Cloud.stay`."""

    async def stop(self, node: str) -> None:
        """As `Cloud.stop`."""
        await self._run([*self._commands.stop, node])

    async def close(self) -> None:
        """As `Cloud.close`."""

    async def _run(self, words: Sequence[str]) -> str:
        """What a program prints; it and all that it started end with its time, and with whoever waits for it."""
        told = f"`{' '.join(words)}` of node group {self._group!r}"
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"{told} cannot be run: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(self._commands.seconds):
                printed, complaint = await process.communicate()
        except TimeoutError as error:
            raise Unavailable(f"{told} did not end within {self._commands.seconds:g} s (command.seconds)") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        if process.returncode:
            said = complaint.decode(errors="replace").strip()[-_SAID:] or "nothing"
            raise Unavailable(f"{told} ended with exit code {process.returncode}; it said: {said}")
        return printed[:_LARGEST_BYTES].decode(errors="replace")

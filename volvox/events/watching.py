"""A folder that is watched: files are told when they are complete."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator

from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.events.inotify import Lost, Tree
from volvox.events.sources import Record
from volvox.inbox import Arrival
from volvox.places import Found
from volvox.places.directory import Directory
from volvox.places.keys import checked, hidden

log = logging.getLogger(__name__)

_SETTLED_SECONDS = 1.0
_POLL_SECONDS = 1.0
_AGAIN_SECONDS = (0.2, 30.0)
_MOST_WAITING = 100_000
_BATCH = 500


class Watch:
    """Tells of files that are written into a folder, or renamed or linked into it, from when it runs on.

    Linux tells when a file was closed that had been written, or renamed. Files in a folder that itself was moved in are
    told when they have not changed for a second. Where Linux tells nothing (a folder of another machine, which says so
    only by silence; another system), the folder is looked through each second. What was there before, and whatever was
    missed, a sweep tells. Names that begin with a dot are left out, as `volvox.places.directory` does.
    """

    def __init__(
        self,
        place: Directory,
        prefix: str = "",
        *,
        function: str = "",
        polling: bool = False,
        poll_seconds: float = _POLL_SECONDS,
        settled_seconds: float = _SETTLED_SECONDS,
    ) -> None:
        """Watch what lies below `prefix`; nothing is done yet.

        Args:
            place: The folder.
            prefix: With what keys begin.
            function: Whom the files are for; empty: every function whose input they are in.
            polling: Look through the folder instead of waiting to be told; for folders of other machines.
            poll_seconds: How often.
            settled_seconds: How long a file must not have changed that is not known to be complete.
        """
        self._place, self._prefix, self._function = place, prefix, function
        self._polling, self._poll, self._settled = polling, poll_seconds, settled_seconds
        self._ready: dict[str, None] = {}  # keys to be told, the oldest first
        self._unsettled: dict[str, float] = {}  # keys that may be incomplete, and when they were seen
        self._more = asyncio.Event()
        self._lost = False
        self.watching = asyncio.Event()
        """Set while files are seen that come."""

    async def run(self, record: Record) -> None:
        """Tell of arrivals until it is cancelled; a folder that is gone is waited for."""
        telling = asyncio.create_task(self._tell(record))
        try:
            while True:
                seeing = asyncio.create_task(self._seen_by_polling() if self._polling else self._seen())
                try:
                    await asyncio.wait({telling, seeing}, return_when=asyncio.FIRST_COMPLETED)
                    if telling.done():
                        telling.result()
                    seeing.result()
                except Unavailable as error:
                    log.warning("%s is looked through instead of watched: %s", self._place.url, error)
                    self._polling = True
                except VolvoxError as error:
                    log.warning("%s", error)
                    await asyncio.sleep(self._poll)
                    self._lost = not self._polling  # what came meanwhile
                    self._more.set()
                finally:
                    self.watching.clear()
                    seeing.cancel()
        finally:
            telling.cancel()

    # -- seeing --------------------------------------------------------------------------------------------------

    async def _seen(self) -> None:
        tree = await asyncio.to_thread(Tree, self._place.root, self._wanted)
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(tree.fileno(), came.set)
        self.watching.set()
        try:
            while True:
                came.clear()
                try:
                    for key, complete in tree.happened():
                        self._came(key, complete=complete)
                except Lost:
                    self._lost = True
                    self._more.set()
                try:
                    async with asyncio.timeout(self._settled / 2 if self._unsettled else self._poll):
                        await came.wait()
                except TimeoutError:
                    if self._unsettled:
                        await asyncio.to_thread(self._settle)
                        self._more.set()
        finally:
            loop.remove_reader(tree.fileno())
            tree.close()

    async def _seen_by_polling(self) -> None:
        """Tell what is new or changed since the last look; a file counts when it is the same in two of them."""
        told = await asyncio.to_thread(self._versions)
        before = dict(told)
        self.watching.set()
        while True:
            await asyncio.sleep(self._poll)
            now = await asyncio.to_thread(self._versions)
            for key, version in now.items():
                if version == before.get(key) and told.get(key) != version:
                    told[key] = version
                    self._came(key, complete=True)
            for key in told.keys() - now.keys():
                del told[key]
            before = now

    def _versions(self) -> dict[str, str]:
        return {one.key: one.version for one in self._place.list(self._prefix)}

    def _wanted(self, folder: str) -> bool:
        return folder.startswith(self._prefix) or self._prefix.startswith(folder)

    def _came(self, key: str, *, complete: bool) -> None:
        if not key.startswith(self._prefix) or hidden(key):
            return
        if len(self._ready) + len(self._unsettled) >= _MOST_WAITING:  # the inbox is down, or slow
            self._lost = True
        elif complete:
            self._unsettled.pop(key, None)
            self._ready[key] = None
        else:
            self._unsettled[key] = time.time()
        self._more.set()

    def _settle(self) -> None:
        for key in list(self._unsettled):
            try:
                found = self._place.find(key)
            except VolvoxError:
                found = None
            if found is None:
                self._unsettled.pop(key, None)
            elif max(found.modified, self._unsettled[key]) + self._settled <= time.time():
                self._unsettled.pop(key, None)
                self._ready[key] = None

    # -- telling -------------------------------------------------------------------------------------------------

    async def _tell(self, record: Record) -> None:
        pause = _AGAIN_SECONDS[0]
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                while self._ready:
                    keys = list(itertools.islice(self._ready, _BATCH))
                    for key in keys:  # so that one which comes again meanwhile is told again
                        del self._ready[key]
                    try:
                        if arrivals := [self._arrival(key) for key in keys if _can_be(key)]:
                            await record(arrivals)
                    except BaseException:
                        self._ready = dict.fromkeys(keys) | self._ready
                        raise
                if self._lost:
                    self._lost = False
                    await self._tell_all(record)
                pause = _AGAIN_SECONDS[0]
            except VolvoxError as error:
                log.warning("files of %s are told again in %.1f s: %s", self._place.url, pause, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _AGAIN_SECONDS[1])
                self._more.set()

    async def _tell_all(self, record: Record) -> None:
        """Tell of every file; the inbox knows most of them."""
        found = self._place.list(self._prefix)
        try:
            while page := await asyncio.to_thread(_page, found):
                settled = time.time() - self._settled
                for one in page:
                    if one.modified > settled:
                        self._unsettled.setdefault(one.key, time.time())
                if arrivals := [self._arrival(one.key) for one in page if one.modified <= settled]:
                    await record(arrivals)
        except NotFound:
            return  # gone again
        except VolvoxError:
            self._lost = True
            raise

    def _arrival(self, key: str) -> Arrival:
        return Arrival(self._place.url, key, source="watch", function=self._function)


def _page(found: Iterator[Found]) -> list[Found]:
    return list(itertools.islice(found, _BATCH))


def _can_be(key: str) -> bool:
    try:
        return bool(checked(key))
    except InvalidInput as error:
        log.warning("a file is left out: %s", error)
        return False

"""A store and senders that fail in every way, through the dispatcher: nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tests.volvox.dispatch.conftest import Site, Tame, dispatching, function, opened
from tests.volvox.dispatch.whole import script, whole
from tests.volvox.events.recording import listening
from tests.volvox.events.test_ceph import Ceph, bucket, ceph, notifying
from tests.volvox.places.conftest import AWS, VERSIONED, made, s3_client
from tests.volvox.places.proxy import FAULTS, Proxy
from tests.volvox.store.standin import StandIn
from volvox.buckets import Access, Patience
from volvox.dispatch.doing import Applied
from volvox.dispatch.function_api import SENDERS, hooks
from volvox.events import Sender, senders
from volvox.functions.definition import Function
from volvox.inbox import ENDED, Arrival, NewJob
from volvox.places import Place
from volvox.places.addresses import parsed
from volvox.places.s3 import S3Place

__all__ = ["bucket", "ceph"]  # fixtures
RETRIES = {"attempts": 40, "first_pause_seconds": 0.05, "longest_pause_seconds": 0.3}


@contextlib.asynccontextmanager
async def on_a_bucket(site: Site, place: Place, runtime: Tame | None = None, **more: Any):
    """A dispatcher whose function reads and writes this place."""
    places = {"inputs": [{"url": f"{place.url}/in"}], "outputs": [{"url": f"{place.url}/out"}]}
    async with dispatching(
        site, runtime, lambda url, function, provider="": place, retries=RETRIES, **places, **more
    ) as here:
        yield here


def answers(place: Place) -> dict[str, int]:
    return {one.key: one.size for one in place.list("out/")}


@pytest.mark.parametrize("name", ["s3", AWS, VERSIONED])
@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_a_store_that_fails_in_every_way(site: Site, tmp_path: Path, name: str, rounds: int) -> None:
    """Errors, slow answers, time-outs after the write was done, connections that are half closed."""
    count = 10 * rounds

    async def check() -> None:
        with contextlib.ExitStack() as stack:
            kind = made(name, tmp_path, stack)
            place, proxy = kind.open(), kind.proxy
            assert proxy is not None
            (tmp_path / "file").write_bytes(b"abc")
            for number in range(count):
                await asyncio.to_thread(place.put, f"in/{number}", tmp_path / "file")
            place.find("out/nothing")  # what is asked once of a server is known before it fails
            before = len(proxy.passed)
            proxy.faults[:] = random.Random(7).sample(FAULTS * rounds, len(FAULTS) * rounds)
            async with on_a_bucket(site, place, scaling={"batch": 4}) as here:
                site.inbox.record([Arrival(place.url, f"in/{number}") for number in range(count)] * 2)
                jobs = await here.ended(count, 600)
            assert not proxy.faults, "all of it happened"
            assert [job.reason for job in jobs if job.state != "SUCCEEDED"] == []
            wanted = {f"out/{job.key[3:]}.{job.id[:8]}.json": len('{"size": 3}') for job in jobs}
            assert (len(jobs), answers(place)) == (count, wanted)
            assert all(job.outputs[0]["key"] in wanted for job in jobs)
            if "versions" in name:
                assert written(place, kind.proxy, kind.secret) == Counter(dict.fromkeys(wanted, 1)), "each once"
            print(f"{count} files, {len(proxy.passed) - before} requests, {len(FAULTS) * rounds} faults")

    asyncio.run(check())


def written(place: Place, proxy: Proxy | None, secret: str) -> Counter[str]:
    """How often each output was written, as the server tells it: it keeps every version."""
    assert proxy is not None
    name = place.url.removeprefix("s3://")
    found = s3_client(proxy.url, "testing", secret).list_object_versions(Bucket=name, Prefix="out/")
    return Counter(one["Key"] for one in found["Versions"] if ".incoming-" not in one["Key"])


def test_a_store_that_hangs_holds_up_no_other_function(site: Site) -> None:
    """Neither by what arrived there and cannot be looked at, nor by jobs whose objects do not come."""
    server = StandIn("bucket")
    access = Access(server.url, "us-east-1", access_key_id="k", secret_access_key="s")
    place = S3Place(parsed("s3://bucket"), access, Patience(connect=1, request=60, silence=60, retries=0))
    keys = [f"in/{number:03}" for number in range(300)]
    server.buckets["bucket"] = dict.fromkeys(keys, (b"abc", 1700000000.0))

    def open_place(url: str, function: Function, provider: str = "") -> Place:
        return place if url.startswith("s3://") else opened(url, function, provider)

    async def check() -> None:
        hangs = {"name": "hangs", "inputs": [{"url": "s3://bucket/in"}], "retries": {"attempts": 50}}
        async with dispatching(site, None, open_place, scaling={"max_scale": 4}) as here:
            entered = [NewJob("hangs", "s3://bucket", key, place.find(key).version) for key in keys[:100]]
            site.inbox.enter(entered)
            server.silent.set()
            await here.dispatcher.deploy(Applied(function(site, **hangs, scaling={"max_scale": 8}), "v1"))
            site.inbox.record([Arrival("s3://bucket", key) for key in keys])
            await here.until(lambda: len(site.inbox.jobs(function="hangs", states=["STARTING"])) >= 64)
            await asyncio.sleep(0.2)  # what arrived is being asked about too
            for number in range(20):
                here.drop(f"{number}.png")
            await here.until(lambda: len(site.inbox.jobs(function="f", states=["SUCCEEDED"])) == 20)
            assert server.silent.is_set()
            assert not site.inbox.jobs(function="hangs", states=ENDED)
            server.silent.clear()
            jobs = await here.ended(320)
            assert {job.state for job in jobs} == {"SUCCEEDED"}
            assert len(jobs) == 320

    asyncio.run(check())
    server.close()


TOKEN_NAME = "minio"


class Senders:
    """A server that takes notifications for a home, behind a proxy."""

    def __init__(self, site: Site, place: str, stack: contextlib.ExitStack) -> None:
        self.token = senders.add(site.home.root / "dispatch" / SENDERS, Sender(TOKEN_NAME, places=(f"{place}/in",)))
        self.url = stack.enter_context(listening(Starlette(routes=hooks(site.home))))
        self.proxy = Proxy(self.url)
        stack.callback(self.proxy.close)

    def body(self, place: str, key: str) -> bytes:
        told = {"bucket": {"name": place.removeprefix("s3://")}, "object": {"key": key.replace("/", "%2F")}}
        return json.dumps({"Records": [{"eventSource": "minio:s3", "s3": told}]}).encode()

    def send(self, place: str, key: str, *, times: int = 1) -> None:
        """Send until it was taken, as MinIO does; `times`: and so often more than it had to."""
        headers = {"Authorization": f"Bearer {self.token}"}
        while times:
            with contextlib.suppress(httpx.HTTPError), httpx.Client(timeout=1.0) as client:
                answer = client.post(f"{self.proxy.url}/events/", content=self.body(place, key), headers=headers)
                times -= answer.status_code == 200

    def cut_off(self, place: str, key: str) -> None:
        """Half of a notification, and the connection is closed."""
        host, port = self.url.removeprefix("http://").split(":")
        body = self.body(place, key)
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /events/{self.token} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[: len(body) // 2])
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                connection.recv(1000)

    def stranger(self, place: str, key: str) -> int:
        """Somebody else sends it; the status of the answer."""
        headers = {"Authorization": "Bearer volvox_of-nobody"}
        return httpx.post(f"{self.url}/events/", content=self.body(place, key), headers=headers).status_code


def test_senders_that_fail_in_every_way(site: Site, tmp_path: Path) -> None:
    """Doubled, cut off, unauthenticated, outside of what the sender may speak of, and every fault on the way."""

    async def check() -> None:
        with contextlib.ExitStack() as stack:
            place = made("s3", tmp_path, stack).open()
            hook = Senders(site, place.url, stack)
            (tmp_path / "file").write_bytes(b"abc")
            told = [f"in/{number}" for number in range(2 * len(FAULTS))]
            for key in [*told, "in/cut", "in/strange", "elsewhere/a"]:
                await asyncio.to_thread(place.put, key, tmp_path / "file")
            hook.proxy.faults[:] = random.Random(7).sample(FAULTS * 2, len(told))
            async with on_a_bucket(site, place) as here:

                def send() -> None:
                    for number, key in enumerate(told):
                        hook.send(place.url, key, times=1 + number % 2)
                    hook.cut_off(place.url, "in/cut")
                    hook.send(place.url, "elsewhere/a")
                    assert hook.stranger(place.url, "in/strange") == 401

                await asyncio.to_thread(send)
                jobs = await here.ended(len(told))
                await here.until(lambda: site.inbox.arrivals_waiting() == 0)
                assert not hook.proxy.faults
                assert sorted(job.key for job in site.inbox.jobs()) == sorted(told), "each once, and nothing else"
            assert {job.state for job in jobs} == {"SUCCEEDED"}
            assert set(answers(place)) == {f"out/{job.key[3:]}.{job.id[:8]}.json" for job in jobs}
            assert sorted(key for asked in here.runtime.asked for key in asked) == sorted(told)

    asyncio.run(check())


@pytest.mark.ceph
@pytest.mark.soak
def test_ceph_end_to_end(site: Site, tmp_path: Path, ceph: Ceph, bucket: str, monkeypatch) -> None:
    """An upload to Ceph, its own notification, a script, and the answer in Ceph."""
    place = ceph.place(ceph.alice, bucket)

    async def check() -> None:
        with contextlib.ExitStack() as stack:
            hook = Senders(site, place.url, stack)
            topic = notifying(ceph, bucket, f"{hook.url}/events/{hook.token}")
            stack.callback(lambda: ceph.sns().delete_topic(TopicArn=topic))
            async with whole(site, None, open_place=lambda url, function, provider="": place) as here:
                text = 'wc -c < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH").txt"'
                places = {"inputs": [{"url": f"{place.url}/in"}], "outputs": [{"url": f"{place.url}/out"}]}
                await here.apply(script(site, text, **places, scaling={"max_scale": 4}))
                (tmp_path / "file").write_bytes(b"abcde")
                names = [f"ü {number}+%2F.bin" for number in range(20)]
                for name in names:
                    await asyncio.to_thread(place.put, f"in/{name}", tmp_path / "file")
                jobs = await here.ended(len(names), 120)
            assert {job.state for job in jobs.values()} == {"SUCCEEDED"}
            assert {job.source for job in jobs.values()} == {"webhook"}
            assert {one.key for one in place.list("out/")} == {f"out/{name}.txt" for name in names}
            place.fetch(f"out/{names[0]}.txt", tmp_path / "answer")
            assert (tmp_path / "answer").read_text().strip() == "5"

    asyncio.run(check())

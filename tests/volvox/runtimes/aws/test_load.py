"""Many uploads, and calls and replies that are lost on the way: each file has one answer, and no more calls are out."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest

from tests.volvox.dispatch.conftest import Site, site
from tests.volvox.dispatch.whole import whole
from tests.volvox.runtimes.aws.cloud import Cloud
from tests.volvox.runtimes.tiny import image_of
from tests.volvox.runtimes.tiny_image import name_of
from volvox.runtimes.aws.lambda_runtime import LambdaRuntime

__all__ = ["site"]

pytestmark = [pytest.mark.aws, pytest.mark.docker, pytest.mark.apart]

AT_ONCE = 4
LOST = 0.03
INVOKE = re.compile(r"^/2015-03-31/functions/.+/invocations")


class Door(ThreadingHTTPServer):
    """Between us and Lambda: counts the calls that are out, refuses some, and loses the replies of others.

    Attributes:
        most: So many calls were out at a time.
        refused: Calls that never reached Lambda.
        lost: Calls that were answered, of which nobody heard.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.upstream = urlsplit(endpoint).netloc
        self.lock = threading.Lock()
        self.out = self.most = self.calls = self.refused = self.lost = 0
        self.chosen: set[int] = set()

    def choose(self, files: int) -> int:
        """Let some of the next calls fail; how many."""
        count = max(2, round(files * LOST))
        with self.lock:
            self.calls = 0
            self.chosen = set(random.Random(7).sample(range(1, files + 1), count))
        return count

    def fate(self) -> str:
        """What is to become of the next call."""
        with self.lock:
            self.calls += 1
            if self.calls not in self.chosen:
                return ""
            if (self.refused + self.lost) % 2:
                self.refused += 1
                return "refused"
            self.lost += 1
            return "lost"

    @contextlib.contextmanager
    def one_out(self) -> Iterator[None]:
        with self.lock:
            self.out += 1
            self.most = max(self.most, self.out)
        try:
            yield
        finally:
            with self.lock:
                self.out -= 1


class Passing(BaseHTTPRequestHandler):
    """Passes one request on."""

    protocol_version = "HTTP/1.1"
    server: Door

    def _passed(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if not (INVOKE.match(self.path) and json.loads(body).get("volvox", {}).get("calls")):
            self._tell(*self._upstream(body))
            return
        fate = self.server.fate()
        if fate == "refused":
            told = b'{"Type": "Server", "message": "not now"}'
            self._tell(503, {"content-type": "application/json", "x-amzn-errortype": "ServiceException"}, told)
            return
        with self.server.one_out():
            answer = self._upstream(body)
        if fate == "lost":
            self.close_connection = True
            self.connection.close()
            return
        self._tell(*answer)

    def _upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=120)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, dict(self.headers))
            answer = connection.getresponse()
            left_out = ("content-length", "transfer-encoding", "connection")
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in left_out}
            return answer.status, headers, answer.read()

    def _tell(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _passed

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def door(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    made = Door(os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{made.server_port}")
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("files", [40, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(1800)
def test_every_upload_has_one_answer_and_never_more_calls_are_out_than_may_be(
    cloud: Cloud, door: Door, site: Site, tiny_images: dict[str, str], files: int
) -> None:
    cloud.models.images = {one: image_of(one, image, name_of(one)) for one, image in tiny_images.items()}
    cloud.s3.put_bucket_versioning(Bucket=cloud.bucket, VersioningConfiguration={"Status": "Enabled"})
    function = cloud.function(
        "lambda", model="tiny/1", scaling={"max_scale": AT_ONCE, "batch": 1},
        retries={"first_pause_seconds": 0.5, "longest_pause_seconds": 2},
    )  # fmt: skip
    runtime = LambdaRuntime(site.home.folder("dispatch", "lambda"), cloud.models)
    names = [f"user-{number % 7}/{number:04}.txt" for number in range(files)]

    def upload(name: str) -> None:
        cloud.s3.put_object(Bucket=cloud.bucket, Key=f"in/{name}", Body=b"sleep 0.1")

    async def test() -> None:
        async with whole(site, cloud.models, runtime=runtime, sources=True) as here:
            await here.apply(function)
            chosen, began = door.choose(files), time.monotonic()
            with ThreadPoolExecutor(4) as threads:
                await asyncio.to_thread(lambda: [*threads.map(upload, names)])
            jobs = await here.ended(files, 60 + files)
            took = time.monotonic() - began
            told = f"{files} uploads in {took:.1f} s, {door.calls} calls, {door.most} out at most"
            print(f"{told}; refused {door.refused}, replies lost {door.lost}")
            assert {job.state for job in jobs.values()} == {"SUCCEEDED"}, [job.reason for job in jobs.values()]
            assert set(jobs) == {f"in/{name}" for name in names}
            assert door.most == AT_ONCE and door.refused + door.lost == chosen
            assert sum(job.attempts - 1 for job in jobs.values()) == chosen
            await runtime.remove(cloud.name)

    try:
        asyncio.run(test())
        pages = cloud.s3.get_paginator("list_object_versions").paginate(Bucket=cloud.bucket, Prefix="out/")
        written = [one["Key"] for page in pages for one in page.get("Versions", [])]
        answers = {str(PurePosixPath(key.removeprefix("out/")).with_suffix("").with_suffix("")) for key in written}
        assert len(written) == files and answers == set(names), "each answer was written once"
        assert cloud.left() == []
    finally:
        pages = [*cloud.s3.get_paginator("list_object_versions").paginate(Bucket=cloud.bucket)]
        for one in [one for page in pages for one in (*page.get("Versions", []), *page.get("DeleteMarkers", []))]:
            cloud.s3.delete_object(Bucket=cloud.bucket, Key=one["Key"], VersionId=one["VersionId"])

"""The client of a cluster: what is asked again, and what is said of refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.volvox.runtimes.oscar.cluster import Fault
from tests.volvox.runtimes.oscar.server import OscarServer
from volvox.errors import AccessRefused, InvalidInput, NotFound, Unavailable
from volvox.runtimes.oscar_cluster import checking
from volvox.runtimes.oscar_cluster.access import Access, Cluster
from volvox.runtimes.oscar_cluster.client import Lost, OscarCluster, Refusal

BODY = {"name": "one", "image": "an/image", "script": "echo"}


def asked(server: OscarServer, test: Callable[[OscarCluster], Awaitable[Any]], **access: Any) -> Any:
    """What `test` gives, asked with this access; by default as the administrator."""
    told = access or {"user": "admin", "password": "a password"}

    async def done() -> Any:
        cluster = OscarCluster(Cluster("lab"), lambda: Access(**{"endpoint": server.endpoint, **told}), pause=0.01)
        try:
            return await test(cluster)
        finally:
            await cluster.close()

    return asyncio.run(done())


@pytest.mark.parametrize("how", [500, 502, 503, 504, "drop", "lose"])
def test_what_only_reads_is_asked_again(server: OscarServer, how: Any) -> None:
    server.faults = [Fault("GET /system/info", how, 2)]
    assert "OSCAR cluster lab, version v3.6.1 on Kubernetes v1.31.2" in asked(server, checking.told)
    assert server.asked.count("GET /system/info") == 3


def test_a_cluster_that_fails_for_long_is_told(server: OscarServer) -> None:
    server.faults = [Fault("GET /system/info", 500, 100)]
    with pytest.raises(Unavailable, match=r"the OSCAR cluster lab fails at GET /system/info \(500: it is broken\)"):
        asked(server, checking.told)
    assert server.asked.count("GET /system/info") == 4


def test_one_that_is_gone_is_told_with_its_address(server: OscarServer) -> None:
    with pytest.raises(Unavailable, match=r"does not answer at http://127\.0\.0\.1:9 "):
        asked(server, checking.told, endpoint="http://127.0.0.1:9", token="t")


@pytest.mark.parametrize("how", ["drop", "lose", 503])
def test_a_service_is_made_once_though_the_answer_was_lost(server: OscarServer, how: Any) -> None:
    server.faults = [Fault("POST /system/services", how)]
    made = asked(server, lambda cluster: cluster.create("/system/services", BODY))
    assert made == (how != "lose") and [*server.services] == ["one"]


def test_what_may_not_be_said_twice_is_not(server: OscarServer) -> None:
    asked(server, lambda cluster: cluster.create("/system/services", BODY))
    server.faults = [Fault("POST /job/one", "lose")]
    with pytest.raises(Lost, match="did not say whether it did POST /job/one"):
        asked(server, lambda cluster: cluster.ask("POST", "/job/one", content=b"{}"), token="a-token-of-a-user")
    assert server.asked.count("POST /job/one") == 1 and len(server.jobs()) == 1


def test_an_answer_that_does_not_come_in_time(server: OscarServer) -> None:
    server.faults = [Fault("GET /system/info", 2.0, 100)]
    with pytest.raises(Unavailable, match="no answer in time"):
        asked(server, lambda cluster: cluster.ask("GET", "/system/info", seconds=0.1))


def test_wrong_credentials_are_told_without_them(server: OscarServer) -> None:
    with pytest.raises(AccessRefused, match=r"does not know user 'admin' \(401") as told:
        asked(server, checking.told, user="admin", password="a wrong one")
    assert "a wrong one" not in str(told.value)
    with pytest.raises(AccessRefused, match=r"the token.*it has expired, or was never good: renew it") as told:
        asked(server, checking.told, token="not-good")
    assert "not-good" not in str(told.value)


def test_a_token_that_was_renewed_in_its_file_counts_at_once(server: OscarServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    server.tokens = {"first"}

    async def test(cluster: OscarCluster) -> None:
        await checking.told(cluster)
        server.tokens = {"second"}
        with pytest.raises(AccessRefused):
            await checking.told(cluster)
        path.write_text("second\n")
        await checking.told(cluster)
        path.unlink()
        with pytest.raises(InvalidInput, match=f"is to be in {path}"):
            await checking.told(cluster)

    asked(server, test, token_file=str(path))


def test_a_token_that_expires_on_the_way_is_read_again(server: OscarServer) -> None:
    told = iter(["old", "new"])
    server.tokens = {"new"}

    async def done() -> str:
        cluster = OscarCluster(Cluster("lab"), lambda: Access(server.endpoint, token=next(told)))
        try:
            return await checking.told(cluster)
        finally:
            await cluster.close()

    assert "v3.6.1" in asyncio.run(done())
    assert server.asked.count("GET /system/info") == 2


def test_what_a_cluster_does_not_want_is_told_with_its_words(server: OscarServer) -> None:
    async def test(cluster: OscarCluster) -> None:
        with pytest.raises(Refusal, match=r"refuses POST /system/services \(400: The service name is not valid\)"):
            await cluster.create("/system/services", {**BODY, "name": "No Name"})
        with pytest.raises(NotFound, match="has no /system/services/none"):
            await cluster.get("/system/services/none")
        assert await cluster.find("/system/services/none") is None
        assert not await cluster.write("DELETE", "/system/services/none")
        server.faults = [Fault("PUT", 409), Fault("DELETE", 403)]
        with pytest.raises(Refusal, match="in the way"):
            await cluster.write("PUT", "/system/services", BODY)
        with pytest.raises(AccessRefused, match="does not let user 'admin' do that"):
            await cluster.write("DELETE", "/system/services/one")

    asked(server, test)


def test_credentials_go_nowhere_else_and_a_page_is_no_cluster() -> None:
    seen: list[str] = []

    async def test() -> None:
        async def other(request: web.Request) -> web.Response:
            seen.append(request.headers.get("Authorization", ""))
            return web.Response(text="<html>welcome</html>")

        async def moved(request: web.Request) -> web.Response:
            raise web.HTTPFound(f"{there}/elsewhere")

        app = web.Application()
        app.router.add_get("/system/info", other)
        app.router.add_get("/moved/system/info", moved)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        there = f"http://localhost:{runner.addresses[0][1]}"
        for path, error, said in (("", Unavailable, "no JSON"), ("/moved", Refusal, "leads GET /system/info from")):
            cluster = OscarCluster(Cluster("lab"), lambda path=path: Access(f"{there}{path}", user="a", password="b"))
            with pytest.raises(error, match=said):
                await checking.told(cluster)
            await cluster.close()
        await runner.cleanup()

    asyncio.run(test())
    assert len(seen) == 1


def test_objects_go_by_addresses_that_carry_their_permission(server: OscarServer, tmp_path: Path) -> None:
    server.buckets.add("b")

    async def pieces(*these: bytes):
        for one in these:
            yield one

    async def test(cluster: OscarCluster) -> None:
        target = tmp_path / "target"
        assert not await cluster.fetch("b", "in/a b", target)
        server.faults = [Fault("PUT /minio", "drop"), Fault("PUT /minio", 503), Fault("GET /minio", "drop")]
        await cluster.put("b", "in/a b", 6, lambda: pieces(b"abc", b"def"))
        assert await cluster.fetch("b", "in/a b", target) and target.read_bytes() == b"abcdef"
        told = await cluster.presigned("b", "in/a b", "download")
        forged = told["url"].replace("in/a%20b", "in/other")
        server.faults = []
        assert (await (await cluster._of_objects()).get(forged)).status_code == 403
        with pytest.raises(NotFound, match="bucket not found"):
            await cluster.put("none", "x", 0, pieces)
        assert not await cluster.fetch("none", "x", target)

    asked(server, test)

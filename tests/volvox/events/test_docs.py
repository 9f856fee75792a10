"""What the page on events shows works as it is shown."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx

from tests.volvox.events.recording import Inbox, until
from volvox.errors import InvalidInput
from volvox.events import Sender, parse
from volvox.places import open_place, split

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()


def test_the_examples_run(tmp_path: Path) -> None:
    inbox = Inbox()
    (tmp_path / "in").mkdir()

    async def unknown(place, found):
        return found

    made: dict = {"FILE": tmp_path / "senders.yaml", "FOLDER": str(tmp_path / "in"), "record": inbox.record}
    made["unknown"] = unknown
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    exec("".join(blocks), made)

    async def told() -> None:
        transport = httpx.ASGITransport(made["app"])
        record = {"eventSource": "minio:s3", "s3": {"bucket": {"name": "bucket"}, "object": {"key": "in/a"}}}
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post(f"/events/{made['token']}", content=json.dumps({"Records": [record]}))
        assert answer.status_code == 200
        watching = asyncio.create_task(made["watch"].run(inbox.record))
        await made["watch"].watching.wait()
        (tmp_path / "in" / "b").write_bytes(b"1")
        await until(lambda: inbox.keys == ["in/a", "b"])
        watching.cancel()
        await made["sweep"].once(inbox.record)

    asyncio.run(told())


def test_every_address_in_the_table_is_one_of_a_place() -> None:
    table = PAGE.split("| URL |")[1].split("\n\n")[0]
    urls = re.findall(r"`((?:/|\w[\w+]*://)[^`]*[^`/])`", table)
    assert len(urls) == 6
    for url in urls:
        place, _ = split(url)
        try:
            assert open_place(url, {"token": "t"}).url == place
        except InvalidInput:
            assert open_place(url).url == place


def test_the_notifications_that_the_shown_settings_lead_to_are_understood() -> None:
    assert re.search(r"endpoint=https://HOST/events/ auth_token=TOKEN", PAGE)
    topics = json.loads(re.search(r"--notification-configuration '(.*?)'\n", PAGE, re.DOTALL)[1])
    (one,) = topics["TopicConfigurations"]
    assert one["Events"] == ["s3:ObjectCreated:*"]
    record = {"eventSource": "ceph:s3", "eventName": "ObjectCreated:Put"}
    record["s3"] = {"bucket": {"name": "bucket"}, "object": {"key": "in/a b"}}
    sender = Sender("ceph", places=("s3://bucket/in",))
    assert [found.key for found in parse(json.dumps({"Records": [record]}), sender).arrivals] == ["in/a b"]

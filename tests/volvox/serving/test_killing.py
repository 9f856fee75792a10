"""Workers that are killed while many ask: nobody waits for ever, nobody gets a wrong answer, nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter

import httpx
import pytest

from tests.volvox.serving.running_server import RunningServer, gone

CLIENTS = 24
DEADLINE_SECONDS = 60.0  # the server's


@pytest.mark.parametrize(
    ("times", "seconds"), [(3, 0.0), pytest.param(10, 60.0, marks=pytest.mark.soak)], ids=["briefly", "for a minute"]
)
def test_every_request_is_answered_while_workers_are_killed(server: RunningServer, times: int, seconds: float) -> None:
    server.deploy("1")
    over, end = threading.Event(), time.monotonic() + seconds
    statuses: Counter[int] = Counter()
    longest, wrong, killed = [0.0], [], set()

    def ask(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=DEADLINE_SECONDS + 5) as client:
            while not over.is_set():
                content = os.urandom(number + 1)
                began = time.monotonic()
                answer = client.post("/v2/models/tiny/predict/", files={"image": ("a.png", content, "image/png")})
                longest[0] = max(longest[0], time.monotonic() - began)
                statuses[answer.status_code] += 1
                if answer.status_code == 200 and answer.json()["predictions"]["bytes"] != len(content):
                    wrong.append((number, answer.text))
                if answer.status_code != 200:
                    time.sleep(0.02)

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    while len(killed) < times or time.monotonic() < end:
        if random.random() < 0.7:  # else it may well be killed while it starts
            server.until_ready()
        time.sleep(random.uniform(0.0, 0.5))
        for pid in server.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    over.set()
    for client in clients:
        client.join(DEADLINE_SECONDS + 10)
    assert not any(client.is_alive() for client in clients)
    assert wrong == []
    assert set(statuses) <= {200, 503}
    assert statuses[200] > 0
    assert longest[0] < DEADLINE_SECONDS
    server.until_ready()
    assert server.ask().status_code == 200
    assert server.uploads() == []
    left = server.children()
    assert server.end() == 0
    assert all(gone(pid) for pid in {*killed, *left})

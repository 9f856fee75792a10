"""The numbers that a server tells Prometheus."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import timeit
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.volvox.serving.running_server import RunningServer
from volvox.serving.metrics import Metrics, memory


def numbers(server: RunningServer) -> dict[tuple[str, ...], float]:
    """(name, label values ...) -> value."""
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def models(*names: str) -> Iterable[Any]:
    pool = SimpleNamespace(waiting=(), open=0)
    return [
        SimpleNamespace(deployed=SimpleNamespace(name=name), pool=pool, worker_pids=[], state="ready", restarts=0)
        for name in names
    ]


def test_answered_requests_are_counted_by_model_and_status_with_their_time(shared: RunningServer) -> None:
    before = numbers(shared)
    for _ in range(3):
        assert shared.ask().status_code == 200
    assert shared.ask(top="x").status_code == 422
    after = numbers(shared)

    def more(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert more("volvox_requests_total", "tiny", "200") == 3
    assert more("volvox_requests_total", "tiny", "422") == 1
    assert more("volvox_request_seconds_count", "tiny") == 4
    assert 0 < more("volvox_request_seconds_sum", "tiny") < 60
    assert more("volvox_request_seconds_bucket", "60.0", "tiny") == 4
    assert more("volvox_batch_requests_count", "tiny") >= 3
    assert 4 * 6 < more("volvox_request_body_bytes_total", "tiny") < 4 * 1000


def test_requests_that_take_the_long_way_count_too(shared: RunningServer) -> None:
    before = numbers(shared).get(("volvox_requests_total", "plain", "200"), 0)
    assert shared.client.post("/v2/models/%70lain/predict/").status_code == 200
    assert numbers(shared)["volvox_requests_total", "plain", "200"] == before + 1


def test_names_that_are_not_served_share_one_label(shared: RunningServer) -> None:
    before = len(numbers(shared))
    for number in range(5):
        assert shared.ask(f"nothing-{number}").status_code == 404
        assert shared.client.post(f"/oip/v2/models/nothing-{number}/infer").status_code == 404
    after = numbers(shared)
    assert after["volvox_requests_total", "", "404"] >= 10
    assert not any(value.startswith("nothing") for key in after for value in key)
    assert len(after) < before + 40


def test_workers_are_told_with_their_memory_and_their_deaths(server: RunningServer) -> None:
    assert server.client.get("/health/ready").json()["ready"] is True  # nothing is to be waited for
    server.deploy("1")
    told = numbers(server)
    assert told["volvox_model_ready", "tiny"] == told["volvox_workers", "tiny"] == 1
    assert told["volvox_worker_memory_bytes", "tiny"] > 1 << 20
    assert told["volvox_worker_restarts_total", "tiny"] == 0
    assert told["process_resident_memory_bytes",] > 1 << 20
    assert server.ask(mode="die").status_code == 503
    assert server.ask().status_code == 200
    assert numbers(server)["volvox_worker_restarts_total", "tiny"] == 1


def test_requests_that_wait_and_that_are_at_work_are_told_while_they_do(server: RunningServer) -> None:
    server.deploy("1")

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):  # the server is killed before it could answer
            server.ask(mode="sleep")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 5
    while (told := numbers(server))["volvox_requests_waiting", "tiny"] != 2:
        assert time.monotonic() < end, told
        time.sleep(0.02)
    assert told["volvox_requests_at_work", "tiny"] == 1
    server.process.kill()
    for thread in threads:
        thread.join()


def test_every_metric_can_be_read_as_openmetrics_too(shared: RunningServer) -> None:
    answer = shared.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_two_servers_in_one_process_do_not_add_up() -> None:
    one, other = Metrics(models("a")), Metrics(models("a"))
    one.answered("a", 200, 0.1)
    value = {"model": "a", "status": "200"}
    assert one.registry.get_sample_value("volvox_requests_total", value) == 1
    assert other.registry.get_sample_value("volvox_requests_total", value) is None


def test_to_count_a_request_costs_microseconds() -> None:
    metrics = Metrics(models("a"))
    each = min(timeit.repeat(lambda: metrics.answered("a", 200, 0.004), number=2000, repeat=15)) / 2000
    assert each < 5e-6, f"{1e6 * each:.1f} microseconds"


def test_memory_of_a_process_that_is_gone_is_none() -> None:
    assert memory(os.getpid()) > 1 << 20
    assert memory(2**22 + 1) == 0


def test_a_server_with_a_model_that_does_not_start_is_not_ready_but_lives(server: RunningServer) -> None:
    server.deploy("1")
    server.deploy("1", name="other")
    assert server.client.get("/health/ready").json()["ready"] is True
    server.end()
    for path in (server.home / "serving" / "other").glob("*/weights"):
        (path / "refuse-to-warm").touch()
    server.start()
    server.until_ready()
    answer = server.client.get("/health/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "these weights cannot be read" in answer.json()["failed"]["other"]
    assert server.client.get("/health/live").status_code == 200
    assert server.client.get("/oip/v2/health/ready").status_code == 503
    assert server.client.get("/oip/v2/models/tiny/ready").status_code == 200
    assert server.client.get("/oip/v2/models/other/ready").status_code == 503
    told = numbers(server)
    assert (told["volvox_model_ready", "tiny"], told["volvox_model_ready", "other"]) == (1, 0)
    assert server.admin.delete("/admin/models/other").status_code == 200
    assert server.client.get("/health/ready").status_code == 200

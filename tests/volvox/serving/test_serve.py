"""`volvox serve` as `deepaas-run` is used: its endpoints, paths, modules, configuration files and logs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.volvox.serving.modules import write_modules

Start = Callable[..., str]
PREDICT = "/v2/models/tiny-plain/predict/"


class Servers:
    """Starts `volvox` in a folder with the tiny modules; ends what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, []
        self.site = write_modules(folder / "site")

    def begin(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.site), "VOLVOX_HOME": str(self.folder / "home")}
        environment.pop("DEEPAAS_V2_MODEL", None)
        self.running.append(
            subprocess.Popen(
                [sys.executable, "-m", "volvox", *words],
                env={**environment, **variables}, cwd=self.folder,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        return self.running[-1]

    def url(self, *options: str, **variables: str) -> str:
        """Serve, and wait until the models are ready."""
        process = self.begin("serve", "--listen-port", "0", *options, **variables)
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, process.communicate(timeout=30)
        root = re.match(r"http://[^/]+", found.group()).group()
        end = time.monotonic() + 60
        while httpx.get(f"{root}/health/ready").status_code != 200:
            assert time.monotonic() < end and process.poll() is None, process.communicate(timeout=10)
            time.sleep(0.05)
        return root

    def refused(self, *words: str, **variables: str) -> tuple[int, str]:
        """Exit code and standard error of a command that ends by itself."""
        process = self.begin(*words, **variables)
        output, errors = process.communicate(timeout=60)
        assert "http://" not in output, "the port was opened before it was told"
        return process.returncode, errors

    def close(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.communicate(timeout=40)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("serve"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def closed(servers: Servers) -> str:
    """A server with everything turned off that can be."""
    return servers.url(
        "--module", "tiny-plain", "--nopredict-endpoint", "--notrain-endpoint", "--nodoc-endpoint", "--nodebug-endpoint"
    )


@pytest.fixture(scope="module")
def below(servers: Servers) -> str:
    """A server below a path, with the debug endpoint and an access log."""
    return servers.url(
        "--module", "tiny-plain", "--module", "tiny-strict", "--base-path", "/x/y/", "--debug-endpoint",
        "--access-log", "--use-json", "--log-file", str(servers.folder / "access.log"),
    )  # fmt: skip


def test_disabled_endpoints_answer_402_and_the_rest_goes_on(closed: str) -> None:
    told = httpx.post(f"{closed}{PREDICT}")
    assert (told.status_code, told.text) == (402, "402: Payment Required")
    assert told.headers["content-type"] == "text/plain; charset=utf-8"
    assert httpx.get(f"{closed}/v2/models/tiny-plain/train/").status_code == 402
    assert httpx.post(f"{closed}/v2/models/tiny-plain/train/").status_code == 402
    assert httpx.delete(f"{closed}/v2/models/tiny-plain/train/{'0' * 32}").status_code == 402
    assert httpx.get(f"{closed}/v2/models/tiny-plain/").json()["id"] == "0"


def test_without_documentation_its_pages_are_404_and_nothing_leads_to_them(closed: str) -> None:
    assert [httpx.get(f"{closed}{path}").status_code for path in ("/api", "/docs", "/ui")] == [404] * 3
    assert [link["rel"] for link in httpx.get(closed).json()["links"]] == ["describedby"]
    html = httpx.get(closed, headers={"Accept": "text/html"}).text
    assert "/docs" not in html
    assert "/api" not in html


def test_without_the_debug_endpoint_it_has_nothing_to_say(closed: str) -> None:
    told = httpx.get(f"{closed}/v2/debug/")
    assert (told.status_code, told.content) == (204, b"")


def test_below_a_base_path_the_root_is_elsewhere(below: str) -> None:
    assert httpx.get(below).status_code == 404
    assert httpx.get(f"{below}/x/y/").status_code == 404
    assert httpx.get(f"{below}/x/yz").status_code == 404
    assert httpx.get(f"{below}/v2/models/").status_code == 404
    told = httpx.get(f"{below}/x/y").json()
    assert told["versions"][0]["links"][0]["href"] == "/x/y/v2/"
    assert [link["href"] for link in told["links"]] == ["/x/y/api", "/x/y/swagger.json"]


def test_below_a_base_path_links_redirects_and_predictions_carry_it(below: str) -> None:
    models = httpx.get(f"{below}/x/y/v2/models/").json()["models"]
    assert [model["links"][0]["href"] for model in models] == [
        "/x/y/v2/models/tiny-plain", "/x/y/v2/models/tiny-strict"
    ]  # fmt: skip
    told = httpx.get(f"{below}/x/y/v2/models")
    assert (told.status_code, told.headers["location"]) == (308, "/x/y/v2/models/")
    assert httpx.get(f"{below}/x/y/ui").headers["location"] == "/x/y/api"
    assert httpx.post(f"{below}/x/y{PREDICT}").json()["predictions"] == {"given": []}
    assert httpx.post(f"{below}{PREDICT}").status_code == 404
    assert httpx.get(f"{below}/x/y/openapi.json").json()["servers"] == [{"url": f"{below}/x/y"}]


def test_every_address_in_a_page_below_a_base_path_is_there(below: str) -> None:
    html = {"Accept": "text/html"}
    for page in ("/x/y", "/x/y/docs", "/x/y/api", "/x/y/models/tiny-plain/"):
        told = httpx.get(f"{below}{page}", headers=html)
        assert told.status_code == 200
        addresses = set(re.findall(r'(?:href|src)="([^"#]+)', told.text))
        assert addresses
        for address in addresses:
            assert address.startswith("/x/y"), (page, address)
            assert httpx.get(f"{below}{address}", headers=html, follow_redirects=True).status_code == 200, address


def test_the_debug_endpoint_shows_what_each_module_printed(servers: Servers) -> None:
    (servers.folder / "loud.py").write_text(
        "import sys\nprint('loaded loudly')\n"
        "def warm():\n    print('warmed', file=sys.stderr)\n"
        "def predict():\n    print('asked')\n    return 1\n"
    )
    url = servers.url("--module", "./loud.py", "--debug-endpoint")
    httpx.post(f"{url}/v2/models/loud/predict/")
    told = httpx.get(f"{url}/v2/debug/")
    assert told.headers["content-type"].startswith("text/plain")
    assert [line for line in told.text.splitlines() if line][1:] == ["loaded loudly", "warmed", "asked"]


def test_a_module_that_is_not_to_be_warmed_is_not(servers: Servers) -> None:
    (servers.folder / "cold.py").write_text(
        "WARM = []\n"
        "def warm():\n    WARM.append(1)\n"
        "def predict():\n    return len(WARM)\n"
    )  # fmt: skip
    assert httpx.post(f"{servers.url('--module', './cold.py', '--nowarm')}/v2/models/cold/predict/").json() == {
        "status": "OK", "predictions": 0
    }  # fmt: skip


def test_predictions_and_other_requests_are_in_the_access_log(below: str, servers: Servers) -> None:
    httpx.post(f"{below}/x/y{PREDICT}?n=1")
    httpx.get(f"{below}/x/y/v2/")
    wanted = [
        rf'127\.0\.0\.1 "POST /x/y{PREDICT}" 200 [\d.]+ms \S+',
        r'127\.0\.0\.1 "GET /x/y/v2/" 200 [\d.]+ms \S+',
    ]

    def said() -> list[str]:
        text = (servers.folder / "access.log").read_text()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line["message"] for line in lines if line["logger"] == "volvox.access"]

    def missing() -> list[str]:
        return [one for one in wanted if not any(re.fullmatch(one, line) for line in said())]

    deadline = time.monotonic() + 10
    while missing() and time.monotonic() < deadline:  # a line is written when the answer has been sent
        time.sleep(0.05)
    assert missing() == []


def test_options_come_from_files_and_the_command_line_goes_before_them(servers: Servers) -> None:
    folder = servers.folder / "conf"
    folder.mkdir()
    first = servers.folder / "first.conf"
    first.write_text("[DEFAULT]\nmodel-name = tiny\nclient_max_size = 10\ndoc_endpoint = False\nworkers = 2\n[other]\n")
    (folder / "b.conf").write_text("[DEFAULT]\nmodel_name = tiny-plain\ndebug-endpoint = true\nunknown = 1\n")
    url = servers.url("--config-file", str(first), "--config-dir", str(folder), "--workers", "1")
    assert [model["links"][0]["href"] for model in httpx.get(f"{url}/v2/models/").json()["models"]] == [
        "/v2/models/tiny-plain"
    ]
    assert httpx.post(f"{url}{PREDICT}", content=b"12345678901").status_code == 413
    assert httpx.get(f"{url}/api").status_code == 404
    assert httpx.get(f"{url}/v2/debug/").status_code == 200


def test_several_modules_in_one_server_each_under_its_name(servers: Servers) -> None:
    url = servers.url("--module", "tiny-plain", "--name", "one", "--module", "tiny-strict", "--name", "two")
    assert httpx.post(f"{url}/v2/models/one/predict/").status_code == 200
    assert httpx.post(f"{url}/v2/models/two/predict/").json() == {"status": "OK", "predictions": {"a": 1}}


def test_a_class_is_instantiated_and_the_environment_may_name_the_module(servers: Servers) -> None:
    (servers.folder / "classy").mkdir()
    (servers.folder / "classy" / "__init__.py").touch()
    (servers.folder / "classy" / "api.py").write_text("class Model:\n    def predict(self):\n        return 'made'\n")
    url = servers.url("--module", "classy.api:Model")
    assert httpx.post(f"{url}/v2/models/classy/predict/").json()["predictions"] == "made"
    url = servers.url(DEEPAAS_V2_MODEL="tiny-plain")
    assert httpx.post(f"{url}{PREDICT}").status_code == 200


class TestRefused:
    def test_a_module_that_does_not_import_is_told_with_its_trace(self, servers: Servers) -> None:
        process = servers.begin("serve", "--module", "tiny-broken", "--listen-port", "0")
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 5
        assert "Traceback (most recent call last)" in errors
        assert "import a_library_that_nobody_has" in errors
        assert errors.splitlines()[-1].startswith("error: module 'tiny-broken' did not start: ModuleNotFoundError")

    def test_none_named_where_several_are_installed(self, servers: Servers) -> None:
        code, errors = servers.refused("serve")
        assert code == 2
        assert re.search(r"model modules are installed \(.*tiny, tiny-broken.*\) and none is named; choose", errors)

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("--python", "/nowhere/python"), "there is no Python at /nowhere/python"),
            (("--python", "/bin/true"), "/bin/true is no Python"),
            (("--base-path", "x"), "--base-path 'x' is no path"),
            (("--log-config-append", "/nowhere"), "--log-config-append /nowhere cannot be used"),
            (("--use-syslog", "--syslog-log-facility", "nobody"), "--syslog-log-facility nobody does not exist"),
            (("--log-file", "/proc/nowhere/log"), "the log cannot be written to /proc/nowhere"),
            (("--name", "one", "--name", "two"), "there are 1 modules and 2 names"),
        ],
    )
    def test_options_that_cannot_be(self, servers: Servers, words: tuple[str, ...], told: str) -> None:
        code, errors = servers.refused("serve", "--module", "tiny-plain", *words)
        assert (code, told in errors) == (2, True), errors
        assert "Traceback" not in errors

    def test_a_configuration_that_is_none(self, servers: Servers) -> None:
        (servers.folder / "wrong.conf").write_text("no section\n")
        code, errors = servers.refused("serve", "--config-file", str(servers.folder / "wrong.conf"))
        assert code == 2
        assert "wrong.conf cannot be read" in errors


def test_a_module_is_served_in_an_interpreter_of_its_own(servers: Servers, tmp_path: Path) -> None:
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    (servers.folder / "where.py").write_text("import sys\ndef predict():\n    return sys.prefix\n")
    url = servers.url("--module", "./where.py", "--python", str(own))
    assert httpx.post(f"{url}/v2/models/where/predict/").json()["predictions"] == str(own)


def test_a_deployed_model_may_have_an_interpreter_of_its_own(server, tmp_path: Path) -> None:
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    (tmp_path / "where.py").write_text("import sys\ndef predict():\n    return sys.prefix\n")
    asked = {"model_version": "a" * 64, "module": f"where = where @ {tmp_path}"}
    missing = str(tmp_path / "nowhere")
    told = server.admin.put("/admin/models/where", json={**asked, "python": missing})
    assert (told.status_code, f"there is no Python at {missing}" in told.json()["error"]) == (422, True)
    assert server.admin.put("/admin/models/where", json={**asked, "python": str(own)}).status_code == 201
    assert server.client.post("/v2/models/where/predict/").json()["predictions"] == str(own)


def test_jobs_outlive_a_killed_server_in_the_folder_that_keeps_them(servers: Servers) -> None:
    (servers.folder / "slow.py").write_text(
        "import sys, time\n"
        "def predict():\n    return 1\n"
        "def train():\n    time.sleep(0.2)\n    return sys.executable\n"
    )  # fmt: skip
    python = servers.folder / "another-python"
    python.symlink_to(sys.executable)
    options = ("--module", "./slow.py", "--keep", "kept", "--python", str(python))
    url = servers.url(*options)
    job = httpx.post(f"{url}/v2/models/slow/train/").json()["uuid"]
    while httpx.get(f"{url}/v2/jobs/{job}").json()["state"] != "SUCCEEDED":
        time.sleep(0.05)
    asked = httpx.post(f"{url}/v2/models/slow/predict/?mode=async").json()["uuid"]
    servers.running[-1].kill()
    servers.running[-1].wait()
    url = servers.url(*options)
    assert "another-python" in httpx.get(f"{url}/v2/jobs/{job}/result").text
    while httpx.get(f"{url}/v2/jobs/{asked}").json()["state"] != "SUCCEEDED":
        time.sleep(0.05)
    assert {job["uuid"] for job in httpx.get(f"{url}/v2/jobs/").json()["jobs"]} == {job, asked}

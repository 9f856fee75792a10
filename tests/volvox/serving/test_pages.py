"""What a person sees, with and without JavaScript."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

import volvox.serving
from tests.volvox.serving.running_server import RunningServer
from volvox.serving.pages import Said

PAGES = [
    "/", "/docs", "/api", "/models/", "/models/tiny/", "/models/plain/", "/models/strict/", "/catalogue/",
    "/open/mlflow/",
]  # fmt: skip
HTML = {"Accept": "text/html"}


class _Page(HTMLParser):
    """Links, labelled controls and whatever a strict policy would block."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.posted: set[str] = set()
        self.controls: dict[str, str] = {}
        self.labels: set[str] = set()
        self.inline: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attributes}
        self.links += [told[name] for name in ("href", "src", "action") if name in told]
        if told.get("method") == "post":
            self.posted.add(told["action"])
        if tag in ("input", "select", "textarea"):
            self.controls[told["id"]] = told["name"]
        if tag == "label":
            self.labels.add(told["for"])
        self.inline += [f"{tag} {name}" for name in told if name.startswith("on") or name == "style"]
        self.inline += ["style element"] if tag == "style" else []
        self._script = tag == "script"
        if tag == "img":
            assert "alt" in told

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append("inline script")
        self._script = False


@pytest.mark.parametrize("path", PAGES)
def test_every_link_of_a_page_answers_and_nothing_comes_from_elsewhere(shared: RunningServer, path: str) -> None:
    page = shared.client.get(path, headers=HTML)
    assert page.status_code == 200
    parsed = _Page(page.text)
    assert parsed.inline == []
    assert set(parsed.controls) <= parsed.labels, "a control has no label"
    for link in parsed.links:
        assert not urlsplit(link).netloc, link
        answer = shared.client.get(link, headers=HTML, follow_redirects=True)
        assert answer.status_code == 200 or (link in parsed.posted and answer.status_code == 405), link


def test_the_try_page_has_a_field_for_every_argument(shared: RunningServer) -> None:
    page = shared.client.get("/models/tiny/").text
    assert list(_Page(page).controls.values()) == ["image", "top", "labels", "mode"]
    assert 'min="1"' in page
    assert 'max="9"' in page
    assert "How many" in page
    assert 'data-sample="/models/tiny/samples/01.png"' in page


def test_the_curl_line_works_when_pasted(shared: RunningServer) -> None:
    page = shared.client.get("/models/tiny/").text
    line = re.search(r'<code id="curl">(.*?)</code>', page).group(1).replace("&#39;", "'").replace("&amp;", "&")
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=True)
    assert json.loads(done.stdout)["predictions"]["name"] == "01.png"


def test_the_form_works_without_javascript(shared: RunningServer) -> None:
    files = {"image": ("<b>.png", b"123", "image/png")}
    page = shared.client.post("/models/tiny/", files=files, data={"top": "", "labels": "a\nb", "mode": ""})
    assert page.status_code == 200
    assert '<meter min="0" max="1" value="0.75">' in page.text
    assert "75.0 %" in page.text
    assert "<b>.png" not in page.text
    assert "&lt;b&gt;.png" in page.text


def test_a_sample_can_be_asked_without_javascript(shared: RunningServer) -> None:
    page = shared.client.post("/models/tiny/", data={"volvox-sample": "01.png"})
    assert page.status_code == 200
    assert "&#34;name&#34;: &#34;01.png&#34;" in page.text
    assert 'aria-pressed="true"' in page.text
    assert "/models/tiny/samples/01.png | curl" in page.text
    assert shared.client.post("/models/tiny/", data={"volvox-sample": "../../../services.json"}).status_code == 404
    assert shared.uploads() == []


def test_a_refusal_is_shown_on_the_page(shared: RunningServer) -> None:
    page = shared.client.post("/models/tiny/", data={"top": "77"})
    assert page.status_code == 422
    assert "image: Missing data for required field." in page.text


def test_a_form_that_cannot_be_read_is_told_on_the_page(shared: RunningServer) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    page = shared.client.post("/models/tiny/", content=b"--x\r\nnothing", headers=headers)
    assert page.status_code == 400
    assert "form: The multipart body ends before its last boundary." in page.text
    assert 'id="try"' in page.text


@pytest.mark.parametrize(
    ("answer", "results"),
    [
        ({"labels": ["a", "b"], "probabilities": [0.2, 0.8]}, [("", [("b", 0.8), ("a", 0.2)])]),
        (
            {"predictions": {"filenames": ["1.png", "2.png"], "pred_lab": [["a"], ["b"]], "pred_prob": [[1.0], [0.5]]}},
            [("1.png", [("a", 1.0)]), ("2.png", [("b", 0.5)])],
        ),
        ({"labels": "a", "probabilities": 1}, []),
        ({"labels": ["a"], "probabilities": ["likely"]}, []),
        (["whatever"], []),
    ],
)
def test_what_is_no_classification_is_shown_as_json_alone(answer: object, results: list) -> None:
    said = Said.of(JSONResponse(answer), "")
    assert said.results == results
    assert said.problems == []
    assert json.loads(said.raw) == answer


def test_an_error_is_told_without_its_status() -> None:
    assert Said.of(PlainTextResponse("500: no such layer", 500), "").problems == ["no such layer"]
    assert Said.of(PlainTextResponse("model: broken", 500), "").problems == ["model: broken"]


def test_a_model_that_dies_gives_a_page_that_says_so(shared: RunningServer) -> None:
    page = shared.client.post("/models/tiny/", files={"image": b"1"}, data={"mode": "die"})
    assert page.status_code == 503
    assert "exit code 3" in page.text


@pytest.mark.parametrize("path", ["/models/huge/", "/nowhere", "/catalogue/nothing/", "/open/nobody/"])
def test_a_page_that_is_not_there_names_what_is(shared: RunningServer, path: str) -> None:
    page = shared.client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 404
    assert 'href="/models/tiny/"' in page.text
    told = shared.client.get(path)
    assert (told.status_code, told.text[:4]) == (404, "404:")  # a program gets a sentence


def test_the_catalogue_serves_files_of_its_folder_and_no_others(server: RunningServer) -> None:
    assert "catalogue is empty" in server.client.get("/catalogue/").text
    folder = server.home / "catalogue" / "tiny"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<p>tiny</p>")
    (folder.parent / "catalogue.json").write_text("{}")
    (folder / "link").symlink_to(server.home / "stack" / "token")
    assert server.client.get("/catalogue/tiny/").text == "<p>tiny</p>"
    assert server.client.get("/catalogue/tiny").headers["location"] == "/catalogue/tiny/"
    assert server.client.get("/catalogue/catalogue.json").headers["content-type"] == "application/json"
    for path in (
        "..%2fstack/token",
        "%2e%2e/stack/token",
        "tiny/link",
        "tiny/%00",
        "/etc/passwd",
        "tiny/..%2f..%2fstack/token",
    ):
        assert server.client.get(f"/catalogue/{path}").status_code == 404, path


def test_the_home_page_lists_the_served_models(shared: RunningServer) -> None:
    page = shared.client.get("/", headers=HTML).text
    assert all(f'href="/models/{name}/"' in page for name in ("plain", "strict", "tiny"))


def test_a_browser_finds_an_icon_where_no_page_names_one(shared: RunningServer) -> None:
    icon = shared.client.get("/favicon.ico", follow_redirects=True)
    assert icon.headers["content-type"].startswith("image/svg")


def test_the_script_of_the_try_page_is_sound(shared: RunningServer) -> None:
    node = os.environ.get("NODE", "node")
    script = shared.client.get("/static/serving/try.js").text
    try:
        done = subprocess.run([*shlex.split(node), "--check", "-"], input=script, text=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no node here to read the script with")
    assert done.returncode == 0, done.stderr


def test_the_api_page_has_a_field_for_every_argument_and_its_forms_can_be_sent(shared: RunningServer) -> None:
    assert shared.client.get("/ui").headers["location"] == "/api"
    told = shared.client.get("/api")
    assert told.status_code == 200
    form = told.text.partition('id="tiny-predict"')[2].partition("</form>")[0]
    assert 'action="/v2/models/tiny/predict/" enctype="multipart/form-data"' in form
    assert set(_Page(form).controls.values()) == {"image", "top", "labels", "mode"}
    assert set(_Page(told.text).controls) == _Page(told.text).labels
    answer = shared.client.post("/v2/models/tiny/predict/", data={"top": "1"}, files={"image": b"12345"})
    assert answer.json()["predictions"]["bytes"] == 5


SCRIPT = """
const { readFileSync } = require("fs");
globalThis.document = { querySelectorAll: () => [] };
globalThis.location = { hash: "" };
const fields = {
  one: ["array", "a\\nb\\n"], two: ["string", ""], three: ["string", "c"], four: ["object", '{"d": 1}'],
};
const elements = {};
for (const [name, [type]] of Object.entries(fields)) {
  const place = { dataset: { type } };
  if (name === "three") place.dataset = { query: "three" };
  const closest = (asked) => asked.includes(`type=${type}`) || asked.includes(",") ? place : null;
  elements[name] = { name, value: fields[name][1], closest };
}
const form = {
  action: "http://here/v2/models/m/predict/", method: "post", elements,
  querySelectorAll: () => [elements.four],
};
globalThis.FormData = class extends FormData {
  constructor(of) { super(); if (of) for (const name in fields) this.append(name, fields[name][1]); }
};
eval(readFileSync(process.argv[2], "utf8").replace('"use strict";', "") + `
const [url, options] = request(form);
withObjects(form, options).then((sent) => console.log(JSON.stringify([url.href, [...options.body], sent])));
`);
"""


def test_the_api_page_sends_what_was_filled_in(tmp_path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here to run the page's script")
    (tmp_path / "run.js").write_text(SCRIPT)
    script = Path(volvox.serving.__file__).parent / "static" / "api.js"
    done = subprocess.run([node, tmp_path / "run.js", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    url, form, sent = json.loads(done.stdout)
    assert url == "http://here/v2/models/m/predict/?three=c"
    assert form == [["one", "a"], ["one", "b"], ["four", '{"d": 1}']]
    assert json.loads(sent["body"]) == {"one": ["a", "b"], "four": {"d": 1}}
    assert sent["headers"] == {"Content-Type": "application/json"}

"""DEEPaaS 2.6.0 itself and our server, sent the same requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.environments import ROOT
from tests.volvox.serving.reference import requests_about_arguments as arguments
from tests.volvox.serving.reference import requests_about_models as models
from tests.volvox.serving.reference import requests_about_trainings as trainings
from tests.volvox.serving.reference.differences import DIFFERENCES
from tests.volvox.serving.reference.modules import write_golden
from tests.volvox.serving.reference.servers import Servers, deepaas_python
from tests.volvox.serving.reference.wire import Answer, Golden, send

PAGE = ROOT / "docs" / "deepaas-differences.md"


def _with_difference(golden: Golden) -> Golden:
    ours, because = DIFFERENCES.get(golden.name, (None, ""))
    return replace(golden, ours=ours, because=because)


GOLDEN = [
    _with_difference(golden)
    for golden in (
        *models.PATHS, *models.OTHER_MODULES, *models.STRICT, *models.ANSWERS,
        *arguments.VALUES, *arguments.BODIES, *arguments.FORMS,
        *trainings.TRAININGS, *trainings.FLAGS,
    )
]  # fmt: skip


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Both servers with the golden modules; started when first asked, ended with the session."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "running").mkdir()
    started = Servers(write_golden(folder / "site"), folder / "running", deepaas_python())
    try:
        yield started
    finally:
        started.end()


def _answer(servers: Servers, server: str, golden: Golden) -> Answer:
    if golden.alone:
        with servers.alone(server, golden.module, golden.flags) as url:
            return send(golden, url)
    return send(golden, servers.url(server, golden.module, golden.flags))


@pytest.mark.reference
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_the_answer_is_that_of_the_reference_or_the_right_one(servers: Servers, golden: Golden) -> None:
    reference = _answer(servers, "reference", golden)
    ours = _answer(servers, "ours", golden)
    if golden.ours is None:
        assert ours == reference
    else:
        assert reference != golden.ours, "the reference answers rightly: this is no difference any more"
        assert ours == golden.ours, golden.because


def _document(servers: Servers, server: str, module: str, flags: tuple[str, ...]) -> dict[str, Any]:
    path = f"{flags[1]}/swagger.json" if "--base-path" in flags else "/swagger.json"
    answer = httpx.get(servers.url(server, module, flags) + path)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    document.pop("info")  # each says what it is
    document.pop("externalDocs", None)
    return document


@pytest.mark.reference
@pytest.mark.parametrize(
    ("module", "flags"),
    [
        *((module, ()) for module in ("golden", "golden-strict", "golden-object", "golden-bare")),
        *(
            ("golden", flags)
            for flags in (("--base-path", "/base"), ("--notrain-endpoint",), ("--nopredict-endpoint",))
        ),
    ],
)
def test_the_swagger_document_is_that_of_the_reference(servers: Servers, module: str, flags: tuple[str, ...]) -> None:
    assert _document(servers, "ours", module, flags) == _document(servers, "reference", module, flags)


@pytest.mark.reference
def test_a_class_is_instantiated_where_the_reference_does_not_start(servers: Servers) -> None:
    with pytest.raises(RuntimeError, match="self"):
        servers.start("reference", "golden-class", ())
    url = servers.url("ours", "golden-class", ())
    answer = httpx.post(f"{url}/v2/models/golden-class/predict/", params={"left": 2, "right": 3})
    assert answer.json() == {"total": 5}


def test_names_of_golden_requests_are_unique_and_differences_belong_to_them() -> None:
    names = [golden.name for golden in GOLDEN]
    assert len(set(names)) == len(names)
    assert set(DIFFERENCES) <= set(names)


def test_the_page_lists_every_difference_and_no_other() -> None:
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    listed = {name.strip("`"): because for names, because in rows for name in names.split(", ")}
    assert listed == {name: because for name, (_, because) in DIFFERENCES.items()}

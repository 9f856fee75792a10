"""The pages for people: home, the served models with their try pages, the API's documentation, the catalogue."""

from __future__ import annotations

import asyncio
import functools
import json
import mimetypes
import shlex
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from volvox.errors import NotFound
from volvox.serving import api, openapi, opening
from volvox.serving.reading import received
from volvox.serving.refusals import Malformed
from volvox.serving.routing import Exact, moved
from volvox.serving.served import ServedModel
from volvox.serving.services import Services, samples
from volvox.serving.smoke import classifications, fault, file_argument

_HERE = Path(__file__).parent
_WEB = _HERE.parent / "web"
_FOR_PROGRAMS = ("/v2", "/admin", "/health", "/openapi.json", "/swagger.json")


def routes() -> list[BaseRoute]:
    """Every page, and the style sheets and scripts they need."""
    return [
        Exact("/", _home),
        Route("/docs", _docs),
        Route("/favicon.ico", _icon),
        Route("/api", _api),
        *(Route(path, _to_docs) for path in ("/docs/", "/api/")),
        Route("/ui", _to_api),
        Route("/models/", _models),
        Route("/models/{name}/", _try),
        Route("/models/{name}/", _answer, methods=["POST"]),
        Route("/models/{name}/samples/{file}", _sample),
        *(Route(path, _with_slash) for path in ("/models", "/models/{name}", "/catalogue")),
        Route("/catalogue/{path:path}", _catalogue),
        Route("/open/{service}", _open),
        Route("/open/{service}/{path:path}", _open),
        Mount("/static/serving", StaticFiles(directory=_HERE / "static", check_dir=False)),
        Mount("/static", StaticFiles(directory=_WEB / "static", check_dir=False)),
    ]


def wanted(request: Request) -> bool:
    """Whether the answer is for a person rather than for a program."""
    for_people = "text/html" in request.headers.get("accept", "")
    return for_people and not request.url.path.removeprefix(api.base_of(request)).startswith(_FOR_PROGRAMS)


def not_found(request: Request, reason: str) -> Response:
    """A page that says what is not there, and what is."""
    return _page(request, "problem.html", 404, title="Not found", reason=reason)


def failed(request: Request, reason: str, status: int, headers: dict[str, str]) -> Response:
    """A page that says why something did not work."""
    title = "Not now" if status in (429, 503, 504) else "That did not work"
    page = _page(request, "problem.html", status, title=title, reason=reason)
    page.headers.update(headers)
    return page


async def _home(request: Request) -> Response:
    if "text/html" not in request.headers.get("accept", ""):  # a client of the DEEPaaS API asks here for its versions
        return JSONResponse(api.versions(request))
    return _page(request, "home.html")


async def _models(request: Request) -> Response:
    return _page(request, "models.html")


async def _docs(request: Request) -> Response:
    return _page(request, "docs.html", curl=functools.partial(_curl, request))


async def _api(request: Request) -> Response:
    return _page(request, "api.html")


async def _to_docs(request: Request) -> Response:
    return RedirectResponse(f"{api.base_of(request)}/docs", 302)


async def _to_api(request: Request) -> Response:
    return moved(302, f"{api.base_of(request)}/api")


async def _icon(request: Request) -> Response:
    """For what carries no link to it: JSON, a model card."""
    return RedirectResponse(f"{api.base_of(request)}/static/volvox.svg", 302)


async def _with_slash(request: Request) -> Response:
    return RedirectResponse(request.url.path + "/", 308)


async def _try(request: Request) -> Response:
    return _try_page(request, _services(request).get(request.path_params["name"]))


async def _answer(request: Request) -> Response:
    """The try page with an answer in it: to its form, sent with or without JavaScript."""
    services, name = _services(request), request.path_params["name"]
    model, chosen, began = services.get(name), "", time.monotonic()
    try:
        async with received(request, services.uploads, services.limits) as sent:
            asked = _from_form(model, sent)
            chosen = next(iter(sent.get("form", {}).get("volvox-sample", [])), "")
            field = file_argument(model.description.get("predict", []))
            if chosen and field:
                path = _sample_path(model, chosen)
                # The module may move or remove what it is given.
                with tempfile.TemporaryDirectory(dir=services.uploads) as folder:
                    copy = shutil.copyfile(path, Path(folder, path.name))
                    asked["files"] = {field: [{"path": str(copy), "content_type": _kind(path), "name": path.name}]}
                    answered = api.response(await services.get(name).predict(asked), name)
            else:
                answered = api.response(await services.get(name).predict(asked), name)
    except Malformed as error:
        return _try_page(request, model, Said.of(JSONResponse(error.messages, error.status), ""))
    files = [file["name"] for given in asked["files"].values() for file in given]
    took = f"answered in {1000 * (time.monotonic() - began):.0f} ms"
    return _try_page(request, model, Said.of(answered, ", ".join([*files, took])), chosen)


@dataclass(frozen=True)
class Said:
    """What a model answered, for people.

    Attributes:
        status: The HTTP status.
        problems: Why it did not answer, one sentence each.
        results: File name -> (label, probability), the most probable first, for each classified file.
        about: What was asked, and how long it took.
        raw: All of it.
    """

    status: int
    problems: list[str]
    results: list[tuple[str, list[tuple[str, float]]]]
    about: str
    raw: str

    @classmethod
    def of(cls, answered: Response, about: str) -> Said:
        text = bytes(answered.body).decode(errors="replace")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text
        raw = answer if isinstance(answer, str) else json.dumps(answer, indent=2, ensure_ascii=False)
        good = answered.status_code == 200
        results = _results(answer) if good else []
        return cls(answered.status_code, [] if good else _problems(answer), results, about, raw)


def _problems(answer: Any) -> list[str]:
    """A refusal's messages (webargs: argument -> messages), or the error's text without its status."""
    if isinstance(answer, dict):
        return [
            f"{name}: {' '.join(map(str, told)) if isinstance(told, list) else told}" for name, told in answer.items()
        ]
    status, _, message = str(answer).partition(": ")
    return [message if status.isdigit() and message else str(answer)]


def _results(answer: Any) -> list[tuple[str, list[tuple[str, float]]]]:
    if fault(answer):
        return []
    found = answer
    while isinstance(found, dict) and "predictions" in found:
        found = found["predictions"]
    names = found.get("filenames") if isinstance(found, dict) else None
    rows = [sorted(zip(*pair, strict=True), key=lambda told: told[1], reverse=True) for pair in classifications(answer)]
    names = names if isinstance(names, list) and len(names) == len(rows) else [""] * len(rows)
    return list(zip(map(str, names), rows, strict=True))


def _from_form(model: ServedModel, sent: dict[str, Any]) -> dict[str, Any]:
    """A form's values as a module expects them: empty fields were not given, a list has one value a line."""
    form = {name: values for name, values in sent.get("form", {}).items() if any(values)}
    values: dict[str, Any] = {}
    for argument in model.description.get("predict", []):
        name = argument["name"]
        if argument["type"] == "array" and name in form:
            form[name] = [line for value in form[name] for line in value.splitlines() if line]
        elif argument["type"] == "object" and name in form:
            text = form.pop(name)[0]
            try:
                values[name] = json.loads(text)
            except ValueError:  # the module's own message is better than ours
                values[name] = text
    return {"form": form, "json": values, "files": sent.get("files", {})}


def _try_page(request: Request, model: ServedModel, said: Said | None = None, sample: str = "") -> Response:
    return _page(
        request, "model.html", said.status if said else 200, said=said, asked_sample=sample,
        model=model, file_field=file_argument(model.description.get("predict", [])), about=api.metadata(model),
        samples=[path.name for path in samples(model)], curl=_curl(request, model, sample),
    )  # fmt: skip


async def _sample(request: Request) -> Response:
    path = _sample_path(_services(request).get(request.path_params["name"]), request.path_params["file"])
    return FileResponse(path, media_type=_kind(path), headers={"Cache-Control": "no-cache"})


def _sample_path(model: ServedModel, name: str) -> Path:
    for path in samples(model):
        if path.name == name:
            return path
    raise NotFound(f"model {model.deployed.name!r} has no sample {name!r}")


def _kind(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


async def _catalogue(request: Request) -> Response:
    asked = request.path_params["path"]
    root = (request.app.state.home / "catalogue").resolve()
    if "\0" in asked:
        raise NotFound("the catalogue has no such page")
    path = (root / asked).resolve()
    if path.is_relative_to(root):
        if path.is_dir() and (path / "index.html").is_file():
            if not request.url.path.endswith("/"):
                return RedirectResponse(request.url.path + "/", 308)
            path = path / "index.html"
        if path.is_file():
            return FileResponse(path, headers={"Cache-Control": "no-cache"})
    if not asked:
        return _page(request, "empty_catalogue.html")
    raise NotFound(f"the catalogue has no page {asked!r}")


async def _open(request: Request) -> Response:
    service, path = request.path_params["service"], request.path_params.get("path", "")
    known = await asyncio.to_thread(opening.addresses, request.app.state.home)
    if service not in known and service not in opening.TITLES:
        raise NotFound(f"the stack has no service {service!r}; it has {', '.join(sorted(known)) or 'none running'}")
    title = opening.TITLES.get(service, service)
    if service in known and await opening.answers(known[service], service):
        return RedirectResponse(opening.target(known[service], path, request.url.query), 302)
    return _page(request, "starting.html", service=title, started=service in known)


def _curl(request: Request, model: ServedModel, sample: str = "") -> str:
    server = str(request.base_url).rstrip("/")
    found = [path.name for path in samples(model)]
    if not found or file_argument(model.description.get("predict", [])) is None:
        return openapi.curl(model, server)
    name = sample if sample in found else found[0]
    url = f"{server}/models/{model.deployed.name}/samples/{name}"
    return f"curl -sS {shlex.quote(url)} | {openapi.curl(model, server, f'-;filename={name}')}"


def _page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    services = _services(request)
    catalogued, offered = request.app.state.home / "catalogue", request.app.state.offered
    html = (
        _templates()
        .get_template(template)
        .render(
            served=list(services),
            trouble=services.trouble,
            describe=api.metadata,
            base=api.base_of(request),
            offered=offered,
            documented=offered.docs,
            **({} if offered.docs else {"api": ""}),
            in_catalogue=lambda model: (catalogued / model.deployed.name / "index.html").is_file(),
            **context,
        )
    )
    return HTMLResponse(html, status)


@functools.cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader

    return Environment(
        loader=FileSystemLoader([_HERE / "templates", _WEB / "templates"]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _services(request: Request) -> Services:
    return request.app.state.services

"""Ask a running model server over HTTP about files: a server of ours, or one of DEEPaaS."""

from __future__ import annotations

import json
import mimetypes
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.settings import Home

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 600.0


@dataclass(frozen=True)
class Said:
    """An answer: its media type and its bytes."""

    kind: str
    body: bytes

    @property
    def is_json(self) -> bool:
        """Whether it is JSON rather than a file."""
        return self.kind == "application/json" or self.kind.endswith("+json")


def predict(inputs: list[str], *, url: str, model: str, content_type: str, output: Path | None, compact: bool) -> None:
    """Have a server answer `inputs`; each answer goes to `output` or to standard output.

    Args:
        inputs: Paths, `file://` or `https://`.
        url: The server's address; empty: the stack's.
        model: The model's name; empty: the only one that is served.
        content_type: What the answer shall be; empty: what the model likes.
        output: A file; for several inputs a folder.
        compact: Whether JSON takes one line.

    Raises:
        VolvoxError: If the server or the model refuses or does not answer; other inputs are answered all the same.
    """
    import httpx

    if output is not None and len(inputs) > 1 and output.exists() and not output.is_dir():
        raise InvalidInput(f"{len(inputs)} files are asked about and --output-file {output} is one file; name a folder")
    patience = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
    with httpx.Client(base_url=(url or _stack()).rstrip("/"), timeout=patience) as client:
        asked = _Model(client, model)
        failed: list[tuple[str, VolvoxError]] = []
        for source in inputs:
            try:
                said = asked.ask(source, content_type)
                _write(said, _target(source, said, output, len(inputs) > 1), compact)
            except VolvoxError as error:
                if len(inputs) == 1:
                    raise
                failed.append((source, error))
    if failed:
        for source, error in failed:
            print(f"error: {source}: {error}", file=sys.stderr)
        raise type(failed[0][1])(f"{len(failed)} of {len(inputs)} files were not answered")


class _Model:
    """One model of a server."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self._client = client
        served = [_name_of(told) for told in _json(self._request("GET", "/v2/models/")).get("models", [])]
        if name and name not in served:
            raise NotFound(f"{client.base_url} serves no model {name!r}; served: {', '.join(served) or 'none'}")
        if not name and len(served) != 1:
            raise InvalidInput(
                f"{client.base_url} serves {len(served)} models; say which with --model-name: {', '.join(served)}"
            )
        self.name = name or served[0]
        self._file, self._accepts = self._arguments()

    def ask(self, source: str, content_type: str) -> Said:
        """The answer about one input."""
        if self._file is None:
            raise InvalidInput(f"model {self.name!r} takes no file; {self._client.base_url}/docs says what it takes")
        query = {"accept": content_type} if content_type and self._accepts else {}
        headers = {"Accept": content_type} if content_type and not query else {}
        with tempfile.TemporaryDirectory(prefix="volvox-predict-") as folder:
            path, name = _local(source, Path(folder))
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            with path.open("rb") as stream:
                answer = self._request(
                    "POST", f"/v2/models/{self.name}/predict/",
                    params=query, headers=headers, files={self._file: (name, stream, kind)},
                )  # fmt: skip
        said = Said(answer.headers.get("content-type", "").partition(";")[0].strip().lower(), answer.content)
        if content_type and said.kind != content_type.lower() and "*" not in content_type:
            raise InvalidInput(f"model {self.name!r} answers {said.kind}, not {content_type}; leave --content-type out")
        return said

    def _arguments(self) -> tuple[str | None, bool]:
        """The argument that takes the file, and whether `accept` is one that is read in the query."""
        path = f"/v2/models/{self.name}/predict/"
        for document in ("/openapi.json", "/swagger.json"):
            answer = self._client.get(document)
            if answer.status_code != 200:
                continue
            for written, told in _json(answer).get("paths", {}).items():
                if written.endswith(path) and "post" in told:
                    return _of_operation(told["post"])
        raise Unavailable(f"{self._client.base_url} does not say what model {self.name!r} takes")

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        import httpx

        address = self._client.base_url
        try:
            answer = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise Unavailable(f"{address} did not answer ({error or type(error).__name__}); is it running?") from error
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidInput(f"{address} is no address of a server: {error}") from error
        if answer.is_success:
            return answer
        told = f"{address}{path} answered {answer.status_code}: {_reason(answer)}"
        if answer.status_code == 404:
            raise NotFound(told)
        if answer.status_code in (429, 503, 504):
            raise Unavailable(told)
        raise InvalidInput(told) if answer.status_code < 500 else ModuleFailed(told)


def _of_operation(operation: dict[str, Any]) -> tuple[str | None, bool]:
    files: list[tuple[bool, str]] = []
    names = {told.get("name") for told in operation.get("parameters", ()) if told.get("in") != "header"}
    for told in operation.get("parameters", ()):
        if told.get("type") == "file":
            files.append((not told.get("required"), told["name"]))
    for kind in operation.get("requestBody", {}).get("content", {}).values():
        schema = kind.get("schema", {})
        for name, told in schema.get("properties", {}).items():
            names.add(name)
            item = told.get("items", told) if told.get("type") == "array" else told
            if item.get("contentMediaType") or item.get("format") == "binary":
                files.append((name not in schema.get("required", ()), name))
    return (min(files, key=lambda told: told[0])[1] if files else None), "accept" in names


def _stack() -> str:
    from volvox.stack.state import addresses

    home = Home.current()
    url = os.environ.get("VOLVOX_WEB_URL") or addresses(home).get("web", "")
    if not url:
        raise Unavailable(f"no web server runs for {home.root}; start it with `volvox up`, or name one with --url")
    return url


def _local(source: str, folder: Path) -> tuple[Path, str]:
    """The input as a file of this machine, and its name."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        import threading

        from volvox.data.download import download
        from volvox.data.http import WebObject

        name = PurePosixPath(unquote(parts.path)).name or "object"
        return download(WebObject(source), folder, threading.Event()), name
    path = Path(unquote(parts.path) if parts.scheme == "file" else source).expanduser()
    if not path.is_file():
        raise NotFound(f"there is no file {path} to ask about")
    return path, path.name


def _target(source: str, said: Said, output: Path | None, several: bool) -> Path | None:
    if output is None or not (several or output.is_dir()):
        return output
    extension = ".json" if said.is_json else mimetypes.guess_extension(said.kind) or ""
    return output / f"{PurePosixPath(unquote(urlsplit(source).path) or source).name}{extension}"


def _write(said: Said, target: Path | None, compact: bool) -> None:
    if said.is_json:
        told = json.loads(said.body)
        body = json.dumps(told, ensure_ascii=False, indent=None if compact else 2).encode() + b"\n"
    else:
        body = said.body
    if target is not None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        except OSError as error:
            raise InvalidInput(f"the answer cannot be written to {target}: {error.strerror}") from error
        return
    if not said.is_json and sys.stdout.isatty() and not said.kind.startswith("text/"):
        raise InvalidInput(
            f"the answer is {len(body)} bytes of {said.kind or 'an unknown type'}, nothing for a terminal; "
            "keep it with --output-file FILE"
        )
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def _name_of(told: dict[str, Any]) -> str:
    """The model's name in URLs: its metadata may name it otherwise."""
    links = [link.get("href", "") for link in told.get("links", ()) if link.get("rel") == "self"]
    return links[0].rstrip("/").rpartition("/")[2] if links else str(told.get("name", ""))


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Unavailable(f"{answer.url} answers no JSON object; is it a model server?")
    return told


def _reason(answer: httpx.Response) -> str:
    text = " ".join(answer.text.split())[:500]
    return text.removeprefix(f"{answer.status_code}: ") or answer.reason_phrase

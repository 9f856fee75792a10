"""The web server that serves models: deploy to it, ask it."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.settings import Home

if TYPE_CHECKING:
    import httpx

_DEPLOY_SECONDS = 300.0
_ANSWER_SECONDS = 90.0  # more than the server's own deadline, so that its reason is heard
_CONNECT_SECONDS = 5.0


class ModelServer(Block):
    """
    The web server that serves model versions.

    Example:
        Ask a served model:
        ```python
        from blocks.server import ModelServer

        answer = await ModelServer.load("BLOCK_NAME").predict("digits", path)
        ```
    """

    _block_type_name = "Volvox model server"
    _block_type_slug = "volvox-model-server"

    url: str = Field(description="Base address of the server, e.g. `http://127.0.0.1:8080`.")
    token: SecretStr | None = Field(default=None, description="Bearer token that it asks of those who deploy.")

    @classmethod
    def local(cls, home: Home | None = None) -> ModelServer:
        """The server that VOLVOX_WEB_URL names, else the one of this machine's stack.

        Raises:
            Unavailable: If it is not running.
        """
        from volvox.serving.admin import read_token
        from volvox.stack.state import addresses

        home = home or Home.current()
        url = os.environ.get("VOLVOX_WEB_URL") or addresses(home).get("web", "")
        if not url:
            raise Unavailable(f"no web server runs for {home.root}, so no model can be served; start it: volvox up")
        try:
            token = SecretStr(read_token(home.root))
        except Unavailable:  # enough to ask a model
            token = None
        return cls(url=url.rstrip("/"), token=token)

    async def served(self) -> dict[str, dict[str, Any]]:
        """What the server serves: name -> `version`, `model_version` (digest), `state`, `reason`, `description`.

        Raises:
            Unavailable: If the server does not answer.
            InvalidInput: If it refuses the token.
        """
        answer = await self._request("GET", "/admin/models", seconds=_CONNECT_SECONDS, headers=self._authorization())
        return {told["name"]: told for told in answer.json()["models"]}

    async def deploy(
        self,
        name: str,
        *,
        version: str,
        model_version: str,
        module: str,
        weights: Path | None = None,
        smoke: Sequence[Path] = (),
        samples: Sequence[Path] = (),
        labels: Sequence[str] = (),
    ) -> tuple[dict[str, Any], bool]:
        """Serve a model version as `name` once it has answered the `smoke` files; the present one answers until then.

        Args:
            name: The model's name in URLs.
            version: Its version number, for people.
            model_version: Digest of the model version; the same one is not deployed twice.
            module: Entry-point name of its module.
            weights: Folder of its weights, on the server's machine like all paths here.
            smoke: Files that it must answer sensibly.
            samples: Images to click on the try page.
            labels: The classes it may answer with.

        Returns:
            What is served now (see `served`), and whether that is a change.

        Raises:
            VolvoxError: If the server's disk is full.
            ModuleFailed: If the version does not start or does not answer as it should; nothing has changed then.
            InvalidInput: If the server cannot use what it was given, or refuses the token.
            Unavailable: If the server does not answer.
        """
        wanted = {
            "version": version,
            "model_version": model_version,
            "module": module,
            "weights": str(weights) if weights else None,
            "smoke": [str(path) for path in smoke],
            "samples": [str(path) for path in samples],
            "labels": list(labels),
        }
        answer = await self._request(
            "PUT", f"/admin/models/{name}", seconds=_DEPLOY_SECONDS, headers=self._authorization(), json=wanted
        )
        told = answer.json()
        return told, bool(told.pop("changed"))

    async def remove(self, name: str) -> None:
        """Serve `name` no longer.

        Raises:
            NotFound: If it is not served.
            Unavailable: If the server does not answer.
        """
        await self._request("DELETE", f"/admin/models/{name}", seconds=_ANSWER_SECONDS, headers=self._authorization())

    async def predict(
        self, model: str, file: Path, *, field: str = "image", name: str = "", arguments: dict[str, str] | None = None
    ) -> Any:
        """Send `file` to the served `model` and return its answer.

        Args:
            model: The name it is served under.
            file: What to send.
            field: Name of the argument that takes the file.
            name: The file's name for the model, if it has another one here.
            arguments: Further arguments.

        Raises:
            NotFound: If no such model is served.
            InvalidInput: If the module refuses the file or an argument.
            ModuleFailed: If it fails, or its answer is not JSON.
            Unavailable: If the server or the model does not answer.
        """
        name = name or file.name
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        with file.open("rb") as stream:
            answer = await self._request(
                "POST", f"/v2/models/{model}/predict/", seconds=_ANSWER_SECONDS,
                files={field: (name, stream, kind)}, data=arguments or {},
            )  # fmt: skip
        try:
            return answer.json()
        except ValueError as error:
            told = answer.headers.get("content-type", "no type")
            raise ModuleFailed(f"model {model!r} answered {name} with {told}, which is not JSON") from error

    def _authorization(self) -> dict[str, str]:
        if self.token is None:
            raise InvalidInput(f"deploying to {self.url} needs a token, and none is known here; `volvox up` makes one")
        return {"Authorization": f"Bearer {self.token.get_secret_value()}"}

    async def _request(self, method: str, path: str, *, seconds: float, **content: Any) -> httpx.Response:
        import httpx

        timeout = httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=timeout, trust_env=False) as client:
                answer = await client.request(method, path, **content)
        except httpx.TransportError as error:
            raise Unavailable(
                f"the model server at {self.url} does not answer ({type(error).__name__}); start it: volvox up"
            ) from error
        if answer.is_success:
            return answer
        raise _error(answer, f"{self.url}{path}")


def _error(answer: httpx.Response, asked: str) -> VolvoxError:
    status, message, trace = answer.status_code, answer.text.partition(": ")[2] or answer.text, ""
    try:
        told = answer.json()
    except ValueError:
        pass
    else:
        trace = str(told.get("trace") or "") if isinstance(told, dict) else ""
        message = str(told["error"]) if isinstance(told, dict) and "error" in told else f"refused: {told}"
        if isinstance(told, dict) and "trace" in told:
            return ModuleFailed(message, trace=trace)
    if status == 404:
        return NotFound(message)
    if status in (429, 503, 504):
        return Unavailable(message)
    if status == 507:
        return VolvoxError(message)
    if status >= 500:
        return ModuleFailed(message)
    return InvalidInput(f"{asked}: {message}")

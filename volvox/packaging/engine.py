"""A container engine that speaks Docker's API: find, build, tag and push images, and run one to ask it something."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.errors import InvalidInput, Unavailable, VolvoxError
from volvox.identity import process_started, this_process

_ANSWERS_SECONDS = 2.0
_SILENCE_SECONDS = 900  # of one request: pip prints nothing while it downloads a large wheel
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_NO_BASE = re.compile(
    r"pull access denied|manifest unknown|not found|no such host|dial tcp|timeout|repository does not", re.I
)
_NO_INDEX = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|name resolution")
_CHATTER = re.compile(r"Step \d+/|--->|Removing intermediate|Successfully built|\[Warning\]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CHECK = "volvox.check"
# Waits until its standard input ends, which it does when the process that started it ends, however that ends.
_REAPER = """
import sys
sys.stdin.read()
import docker
docker.DockerClient(base_url=sys.argv[1]).api.remove_container(sys.argv[2], force=True, v=True)
"""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWERS_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """A Docker engine, or one that speaks its API (Podman does).

    Attributes:
        host: Its address, e.g. `unix:///var/run/docker.sock`.
    """

    def __init__(self, host: str = "") -> None:
        """Speak to the engine at `host`; empty: `DOCKER_HOST`, else the first socket that this user has."""
        self.host = host or os.environ.get("DOCKER_HOST") or _usual_socket()
        self._kept: Any = None

    def why_not(self) -> str:
        """Why the engine cannot be used, in one sentence; empty if it answers. Takes milliseconds without a socket."""
        if not self.host:
            return "no container engine runs here"
        try:
            status = self._status("/_ping")
        except (OSError, http.client.HTTPException, VolvoxError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return f"the container engine at {self.host} does not answer ({reason})"
        return "" if status == http.client.OK else f"the container engine at {self.host} answers {status} to a ping"

    def has(self, image: str) -> bool:
        """Whether the engine has the image of this id; takes milliseconds."""
        try:
            return self._status(f"/images/{image}/json") == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def find(self, context: str) -> str:
        """Id of an image that was built from the context of this digest, or empty."""
        # What stands on it may have inherited the label, and once that has taken its name it is itself not in the
        # short list: so all are asked for, and the one of the fewest steps is it.
        found = self._api.images(filters={"label": [f"volvox.context={context}"]}, quiet=True, all=True)
        return min(found, key=lambda image: len(self._api.history(image)), default="")

    def build(self, context_tar: Path, context: str, cancelled: threading.Event) -> str:
        """Build the image of a context, telling the steps as progress; return the image's id. It gets no name.

        Args:
            context_tar: The build context.
            context: Its digest, which becomes a label to find the image by.
            cancelled: Once set, the build ends at the next line that it prints.

        Raises:
            Cancelled: If it was.
            Unfetchable: If the base image is not here and cannot be fetched, or what is installed cannot.
            VolvoxError: If a step fails.
        """
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        labels = {"volvox.context": context, "org.opencontainers.image.created": created}
        image, step, said = "", "", deque[str](maxlen=8)
        with self._errors("build the image"), context_tar.open("rb") as stream:
            for line in self._api.build(
                fileobj=stream, custom_context=True, rm=True, forcerm=True, decode=True, labels=labels
            ):
                if cancelled.is_set():  # the engine ends a build that nobody reads from
                    raise Cancelled
                text = _COLOUR.sub("", line.get("stream", "")).strip()
                if text and not _CHATTER.match(text):
                    said.append(text)
                if match := _STEP.match(text):
                    step = match[3]
                    progress.advance(int(match[1]), int(match[2]), "steps")
                if "error" in line:
                    raise _build_failed(step, line["error"], said)
                image = line.get("aux", {}).get("ID") or image
        return image

    def image(self, image: str) -> dict[str, Any]:
        """What the engine says of an image: `Id`, `Size`, `Config`, ..."""
        with self._errors(f"look at image {image[:19]}"):
            return self._api.inspect_image(image)

    def layers(self, image: str) -> tuple[tuple[str, int], ...]:
        """What made each layer that has a size, and its size in bytes; newest first."""
        told = self._api.history(image)
        return tuple((_made_by(layer), layer["Size"]) for layer in told if layer["Size"])

    def name(self, image: str, repository: str, tags: tuple[str, ...]) -> None:
        """Give an image its names; an image that loses its last name by that, and is not in use, is removed."""
        with self._errors(f"name image {image[:19]}"):
            before = {found["Id"] for found in self._api.images(name=repository)}
            for tag in tags:
                self._api.tag(image, repository, tag, force=True)
            after = {found["Id"] for found in self._api.images(name=repository)}
        for superseded in before - after:
            self.remove(superseded)

    def remove(self, image: str) -> None:
        """Remove an image that has no name and is not in use; the layers stay as the cache of the next build."""
        import docker.errors

        with contextlib.suppress(docker.errors.APIError):
            self._api.remove_image(image, noprune=True)

    def push(self, image: str, reference: str) -> str:
        """Send an image to a registry; return its reference by digest, e.g. `host/volvox/digits@sha256:...`.

        The credentials are those of `docker login`.

        Raises:
            Unavailable: If the registry does not take it.
        """
        repository, _, tag = reference.rpartition(":")
        with self._errors(f"push {reference}"):
            self._api.tag(image, repository, tag, force=True)
            digest = ""
            for line in self._api.push(repository, tag=tag, stream=True, decode=True):
                if "error" in line:
                    raise Unavailable(
                        f"{reference} cannot be pushed: {line['error']}; check VOLVOX_REGISTRY and `docker login`"
                    )
                digest = line.get("aux", {}).get("Digest") or digest
            self._api.remove_image(reference)  # that name only: left here it would keep the image when it is superseded
        return f"{repository}@{digest}"

    @contextlib.contextmanager
    def running(self, image: str, port: int, memory: str = "2g") -> Iterator[tuple[str, int]]:
        """Run an image with nothing but a loopback port, a small `/tmp` and no rights; give its id and that port.

        The container is removed when the block ends, and also when this process is killed.
        """
        asked = {"ports": [port], "healthcheck": {"interval": 500_000_000}}  # half a second; the rest is the image's
        with self._locked_down(image, asked, memory=memory, port_bindings={port: ("127.0.0.1", None)}) as container:
            bound = self._api.inspect_container(container)["NetworkSettings"]["Ports"][f"{port}/tcp"]
            yield container, int(bound[0]["HostPort"])

    def ask(
        self, image: str, command: list[str], cancelled: threading.Event, *, user: str = "", seconds: float = 120.0
    ) -> tuple[int, str]:
        """Run a command in an image as `running` does, but without network; its exit code and the end of its output.

        Args:
            image: The image.
            command: Program and arguments.
            cancelled: Once set, the container is removed.
            user: Number of the user and of the group, e.g. `4711:4711`; empty: the image's own.
            seconds: How long it may take.

        Raises:
            Cancelled: If it was.
            VolvoxError: If it takes longer.
        """
        asked = {"command": command, "user": user or None}
        with self._locked_down(image, asked, network_mode="none", memory="4g") as container:
            deadline = time.monotonic() + seconds
            while (state := self.state(container))["Running"]:
                if time.monotonic() > deadline:
                    raise VolvoxError(f"`{' '.join(command)}` in image {image[:19]} took more than {seconds:.0f} s")
                if cancelled.wait(0.1):
                    raise Cancelled
            said = self.logs(container)
        return state["ExitCode"], f"{said}\nended for lack of memory" if state.get("OOMKilled") else said

    def state(self, container: str) -> dict[str, Any]:
        """State of a container: `Running`, `ExitCode`, `Health`, ..."""
        return self._api.inspect_container(container)["State"]

    def logs(self, container: str, lines: int = 20) -> str:
        """The last lines that a container printed."""
        return self._api.logs(container, tail=lines).decode(errors="replace").strip()

    def execute(self, container: str, command: list[str]) -> tuple[int, str]:
        """Run a command in a running container; its exit code and what it printed on standard output."""
        run = self._api.exec_create(container, command, stderr=False)
        said = self._api.exec_start(run["Id"])
        return self._api.exec_inspect(run["Id"])["ExitCode"], said.decode(errors="replace")

    # -- inside --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked_down(self, image: str, asked: dict[str, Any], *, memory: str, **host: Any) -> Iterator[str]:
        """A running container that can change nothing but a small `/tmp`; removed when the block or this process ends.

        Args:
            image: The image.
            asked: What else the container gets.
            memory: How much of it, e.g. `2g`.
            host: What else its host configuration gets.
        """
        api = self._api
        self._sweep()
        with self._errors(f"run image {image[:19]}"):
            container = api.create_container(
                image,
                labels={_CHECK: "{}:{}".format(*this_process())},
                host_config=api.create_host_config(
                    read_only=True,
                    tmpfs={"/tmp": "size=256m,mode=1777"},  # noqa: S108 - a path inside the container
                    cap_drop=["ALL"],
                    security_opt=["no-new-privileges"],
                    mem_limit=memory,
                    pids_limit=256,
                    init=True,
                    **host,
                ),
                **asked,
            )["Id"]
        reaper = subprocess.Popen(
            [sys.executable, "-c", _REAPER, self.host, container],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            with self._errors(f"run image {image[:19]}"):
                api.start(container)
            yield container
        finally:
            with contextlib.suppress(Exception):  # if it fails, the reaper, whose input ends here, tries once more
                api.remove_container(container, force=True, v=True)
                reaper.kill()
            if reaper.stdin:
                reaper.stdin.close()
            reaper.wait()

    def _status(self, path: str) -> int:
        """The HTTP status of a GET, without importing the SDK where the address allows."""
        address = urlsplit(self.host)
        if address.scheme == "unix":
            connection: http.client.HTTPConnection = _UnixConnection(address.path)
        elif address.scheme == "tcp" and not os.environ.get("DOCKER_TLS_VERIFY"):
            host, port = address.hostname or "localhost", address.port or 2375
            connection = http.client.HTTPConnection(host, port, timeout=_ANSWERS_SECONDS)
        else:  # TLS, SSH and named pipes are the SDK's business
            with self._errors("answer"):
                return self._api.get(self._api.base_url + path, timeout=_ANSWERS_SECONDS).status_code
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status

    @property
    def _api(self) -> Any:
        if self._kept is None:
            import docker

            with self._errors("reach the container engine"):
                self._kept = docker.APIClient(
                    base_url=self.host, version="auto", timeout=_SILENCE_SECONDS, tls=_tls() or False
                )
        return self._kept

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """The SDK's errors as ours."""
        import docker.errors
        import requests

        try:
            yield
        except docker.errors.APIError as error:
            raise VolvoxError(
                f"the container engine at {self.host} refused to {doing}: {error.explanation or error}"
            ) from error
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise Unavailable(
                f"the container engine at {self.host} did not answer ({error}); "
                "start it and run again, or use --no-image"
            ) from error

    def _sweep(self) -> None:
        """Remove the containers of checks whose process is gone: killed between making one and watching over it."""
        for found in self._api.containers(all=True, filters={"label": [_CHECK]}):
            pid, _, started = found["Labels"][_CHECK].partition(":")
            if process_started(int(pid)) != float(started):
                with contextlib.suppress(Exception):
                    self._api.remove_container(found["Id"], force=True, v=True)


def _usual_socket() -> str:
    """The first of the places where an engine listens for this user."""
    places = (
        Path("/var/run/docker.sock"),
        Path(os.environ.get("XDG_RUNTIME_DIR", "/run/user/none"), "docker.sock"),
        Path.home() / ".docker/run/docker.sock",
        Path(os.environ.get("XDG_RUNTIME_DIR", "/run/user/none"), "podman/podman.sock"),
    )
    return next((f"unix://{path}" for path in places if path.exists()), "")


def _tls() -> Any:
    import docker.utils

    return docker.utils.kwargs_from_env().get("tls")


def _made_by(layer: dict[str, Any]) -> str:
    """A layer's instruction as a reader of the Dockerfile would look for it."""
    text = " ".join(str(layer.get("CreatedBy") or "").replace("/bin/sh -c", "").replace("#(nop)", "").split())
    if not text:
        return "base image"
    text = re.sub(r"^(COPY|ADD) (?:dir|file|multi):\w+ in ", r"\1 to ", text)
    return text if len(text) <= 100 else text[:99] + "…"


class Unfetchable(Unavailable):
    """What an image is built from is not here and cannot be fetched: a base image, or packages."""


def _build_failed(step: str, error: str, said: deque[str]) -> VolvoxError:
    if step.startswith("FROM") and _NO_BASE.search(error):
        return Unfetchable(
            f"the base image is not on this engine and cannot be fetched ({error.strip()}); "
            "set ENGINE_BASE_IMAGE to an image with Python that is, or use --no-image"
        )
    if any(_NO_INDEX.search(line) for line in said):
        return Unfetchable(
            "the package index cannot be reached from inside the image build, which installs the server's "
            "dependencies; give the engine a way to it, or use --no-image"
        )
    last = f"; it said: {' / '.join(said)[-600:]}" if said else ""
    return InvalidInput(
        f"the image cannot be built: the step `{step[:120]}` failed{last or ': ' + error.strip()[-300:]}"
    )

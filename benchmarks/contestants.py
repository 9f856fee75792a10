"""Who is compared by `benchmarks.serving`: how each is installed, started and asked, and what it may be set to."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".bench"
MODULE = ROOT / "model_modules" / "image_classifier"
PEERS = Path(__file__).parent / "peers"
# What reads and computes is the same build in every environment.
SHARED = [f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "pillow", "webargs", "marshmallow")]
FAST = ["uvicorn==0.54.0", "httptools==0.9.0", "uvloop==0.23.0"]
REQUIREMENTS: dict[str, list[str]] = {
    "deepaas": ["deepaas==2.6.0", "marshmallow<4", "setuptools<81"],
    "fastapi": [*SHARED, *FAST, "fastapi==0.165.0", "python-multipart==0.0.34"],
    "litserve": [*SHARED, *FAST, "litserve==0.2.19", "fastapi==0.165.0", "python-multipart==0.0.34"],
    "bentoml": [*SHARED, *FAST, "bentoml==1.4.40"],
    "mlflow": [*SHARED, *FAST, "mlflow==3.17.2"],
}
_QUIET = {
    "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1",
    "BENTOML_HOME": str(CACHE / "bentoml-home"), "OMP_NUM_THREADS": "1", "VOLVOX_THREADS": "1",
}  # fmt: skip


class Missing(Exception):
    """A peer that cannot be installed here."""


@dataclass(frozen=True)
class Contestant:
    """One server with one setting.

    Attributes:
        name: Of the product.
        command: The command line for a port.
        requests: Whole HTTP requests, one for each question.
        environment: Variables beside those of this process.
        unwrapped: Our form of the body of an answer.
        setting: What it is set to, beside its defaults.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    requests: list[bytes]
    environment: dict[str, str] = field(default_factory=dict)
    unwrapped: Callable[[Any], Any] = lambda said: said
    setting: dict[str, Any] = field(default_factory=dict)


def python_of(name: str) -> Path:
    """The interpreter of a peer's own environment, which is made on first use and then appears whole or not at all.

    Raises:
        Missing: If it cannot be installed.
    """
    wanted, place = "\n".join(REQUIREMENTS[name]), CACHE / "peers" / name
    CACHE.joinpath("peers").mkdir(parents=True, exist_ok=True)
    with (CACHE / "peers" / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = place / "requirements.txt"  # written last: without it the folder is half made
        if not (done.is_file() and done.read_text() == wanted):
            print(f"installing {', '.join(REQUIREMENTS[name])} into {place}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
            pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
            for words in ([sys.executable, "-m", "venv", place], [*pip, *REQUIREMENTS[name]]):
                made = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1200)
                if made.returncode:
                    raise Missing(f"{name} cannot be installed: {(made.stderr or made.stdout)[-600:]}")
            done.write_text(wanted)
    return place / "bin" / "python"


# -- Part A: a trivial module ------------------------------------------------------------------------------------------


def write_trivial(folder: Path) -> Path:
    """Write the distribution of two modules, `bench-trivial` and `bench-upload`; `folder` goes on PYTHONPATH."""
    info = folder / "bench_modules-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-modules\nVersion: 1.0\n")
    lines = "bench-trivial = bench_trivial\nbench-upload = bench_upload\n"
    (info / "entry_points.txt").write_text(f"[deepaas.v2.model]\n{lines}")
    for name in ("trivial_function", "bench_trivial", "bench_upload"):
        shutil.copy(PEERS / f"{name}.py", folder)
    return folder


def _request(path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: {content_type}\r\n\r\n".encode() + body if body else f"{head}\r\n".encode()


def _upload(path: str, content: bytes, name: str, content_type: str, field_name: str) -> bytes:
    head = f'--next\r\nContent-Disposition: form-data; name="{field_name}"; filename="{name}"\r\n'
    body = f"{head}Content-Type: {content_type}\r\n\r\n".encode() + content + b"\r\n--next--\r\n"
    return _request(path, body, "multipart/form-data; boundary=next")


def ours(module: str, **options: str) -> Callable[[int], list[str]]:
    """The command line of our server."""
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    return lambda port: [
        sys.executable, "-m", "volvox", "serve", "--module", module, "--listen-port", str(port), *more
    ]  # fmt: skip


def deepaas(module: str, workers: int = 1) -> Callable[[int], list[str]]:
    """The command line of DEEPaaS."""
    run = str(python_of("deepaas").with_name("deepaas-run"))
    more = ["--workers", str(workers)] if workers > 1 else []
    return lambda port: [run, "--listen-ip", "127.0.0.1", "--listen-port", str(port), "--model-name", module, *more]


def questions(path: str) -> list[bytes]:
    """Questions to the trivial module, as both servers' Swagger says: in the query."""
    asked = [{"number": number, "text": f"text {number}"} for number in range(16)]
    return [_request(f"{path}?{urllib.parse.urlencode(question)}") for question in asked]


def trivial(folder: Path, peer: str, workers: int = 1) -> Contestant:
    """The trivial module in one of `volvox`, `deepaas` and `fastapi`.

    Raises:
        Missing: If the peer cannot be installed.
    """
    site = {"PYTHONPATH": str(folder), **_QUIET}
    path = "/v2/models/bench-trivial/predict/"
    if peer == "volvox":
        return Contestant("volvox", ours("bench-trivial"), questions(path), site)
    if peer == "deepaas":
        setting = {"workers": workers}
        return Contestant("deepaas", deepaas("bench-trivial", workers), questions(path), site, setting=setting)
    python = str(python_of("fastapi"))
    site["PEER_SETTING"] = json.dumps({"how": "process"})
    command = [python, str(PEERS / "fastapi_server.py")]
    return Contestant("fastapi", lambda port: [*command, str(port)], questions("/predict"), site)


def upload(folder: Path, peer: str, size: int) -> Contestant:
    """A module that takes a file of `size` bytes, in `volvox` or `deepaas`."""
    file = _upload(
        "/v2/models/bench-upload/predict/", os.urandom(1 << 20) * (size >> 20), "a.bin", "image/tiff", "data"
    )
    command = ours("bench-upload") if peer == "volvox" else deepaas("bench-upload")
    return Contestant(peer, command, [file], {"PYTHONPATH": str(folder), **_QUIET})


# -- Part B: the digits ------------------------------------------------------------------------------------------------

_LITSERVE = [
    (1, 0.0, False, 1), (1, 0.0, True, 1), (16, 0.0, False, 1), (16, 0.001, False, 1), (16, 0.001, True, 1),
    (16, 0.005, True, 1), (64, 0.002, False, 1), (64, 0.002, True, 1), (64, 0.01, True, 1), (16, 0.001, True, 2),
]  # fmt: skip
GRID: dict[str, list[dict[str, Any]]] = {
    "fastapi": [{"how": "async"}, {"how": "sync"}, {"how": "thread"}],
    "litserve": [
        {"batch": batch, "timeout": timeout, "fast_queue": fast, "workers": workers}
        for batch, timeout, fast, workers in _LITSERVE
    ],
    "bentoml": [
        {"how": "async"}, {"how": "sync"}, {"how": "async", "workers": 2}, {"batch": 64, "form": True},
        {"batch": 16, "latency": 1000}, {"batch": 64}, {"batch": 64, "latency": 200}, {"batch": 64, "workers": 2},
    ],
    "mlflow": [{"workers": 1}, {"workers": 2}],
}  # fmt: skip
# What a quick run takes where no full run has found anything yet: what it was when this was written.
_LITSERVE_USUAL = {"batch": 64, "timeout": 0.002, "fast_queue": True, "workers": 1}
USUAL: dict[str, dict[int, dict[str, Any]]] = {
    "fastapi": {at: {"how": "async"} for at in (1, 16, 64)},
    "litserve": {1: {"batch": 1, "fast_queue": True}, 16: _LITSERVE_USUAL, 64: _LITSERVE_USUAL},
    "bentoml": {1: {"how": "async"}, 16: {"batch": 64}, 64: {"batch": 64}},
    "mlflow": {at: {"workers": 2} for at in (1, 16, 64)},
}


def digits(peer: str, weights: Path, pictures: list[bytes], setting: dict[str, Any]) -> Contestant:
    """The digits classifier in one of the peers, or in `volvox`.

    Raises:
        Missing: If the peer cannot be installed.
    """
    weights_here = {"VOLVOX_WEIGHTS": str(weights), **_QUIET}
    if peer == "volvox":
        path = "/v2/models/image_classifier/predict/"
        asked = [_upload(path, picture, "digit.png", "image/png", "image") for picture in pictures]
        return Contestant("volvox", ours("image_classifier", weights=str(weights)), asked, weights_here)
    python = python_of(peer)
    environment = {
        **weights_here, "PYTHONPATH": f"{PEERS}{os.pathsep}{MODULE}", "PEER_SETTING": json.dumps(setting),
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }  # fmt: skip
    if peer == "mlflow":
        return _mlflow(python, environment, pictures, setting)
    if peer == "bentoml":
        run = [str(python.with_name("bentoml")), "serve", "bentoml_service:Digits", "--working-dir", str(PEERS)]
        asked = _uploads_or_texts("/predict", pictures, form=bool(setting.get("form")), batch="batch" in setting)
        first = (lambda said: said[0]) if "batch" in setting else (lambda said: said)
        return Contestant(
            peer, lambda port: [*run, "--host", "127.0.0.1", "--port", str(port)], asked, environment, first, setting
        )
    form = peer == "fastapi" or bool(setting.get("form"))
    asked = _uploads_or_texts("/predict", pictures, form=form, batch=False)
    command = [str(python), str(PEERS / f"{peer}_server.py")]
    return Contestant(peer, lambda port: [*command, str(port)], asked, environment, setting=setting)


def _mlflow(python: Path, environment: dict[str, str], pictures: list[bytes], setting: dict[str, Any]) -> Contestant:
    model = CACHE / f"model-{REQUIREMENTS['mlflow'][-1]}"
    if not model.is_dir():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = Path(folder, "model")
            words, variables = [python, PEERS / "mlflow_model.py", made], {**os.environ, **environment}
            subprocess.run(words, env=variables, check=True, capture_output=True, timeout=300)
            made.rename(model)
    run = [str(python.with_name("mlflow")), "models", "serve", "-m", str(model), "--env-manager", "local"]
    more = ["--host", "127.0.0.1", "--workers", str(setting.get("workers", 1))]
    asked = [_request("/invocations", json.dumps({"inputs": [text]}).encode()) for text in _texts(pictures)]
    return Contestant(
        "mlflow", lambda port: [*run, *more, "--port", str(port)], asked, environment,
        lambda said: said["predictions"][0], setting,
    )  # fmt: skip


def _texts(pictures: list[bytes]) -> list[str]:
    return [base64.b64encode(picture).decode() for picture in pictures]


def _uploads_or_texts(path: str, pictures: list[bytes], *, form: bool, batch: bool) -> list[bytes]:
    if form:
        return [_upload(path, picture, "digit.png", "image/png", "image") for picture in pictures]
    return [
        _request(path, json.dumps({"image": [text] if batch else text}).encode()) for text in _texts(pictures)
    ]  # fmt: skip

"""`python -m volvox.pools.probe`: from inside a job, can Prefect, MLflow and the store be reached?

It prints one line of JSON. Where nobody can read that line, as in a task of ECS without logs, the exit code says it:
0, or 64 with 1 for Prefect, 2 for MLflow and 4 for the store added.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

BITS = {"prefect": 1, "mlflow": 2, "store": 4}
FAILED = 64

_ANSWERS_SECONDS = 10.0
_ALL_SECONDS = 25.0
_MARK = "volvox-probe"
_BLOCK = "block:"
_BLOCK_TYPE = "volvox-object-store"


def main() -> int:
    """Try all three at once, print what came of it, return the exit code."""
    told = probe()
    print(json.dumps({_MARK: told}), flush=True)
    return exit_code(told)


def probe() -> dict[str, dict[str, Any]]:
    """What came of each: `ok`, and `said` in a sentence. A thing that the environment does not name is left out."""
    tries = {
        "prefect": (_prefect, "PREFECT_API_URL"), "mlflow": (_mlflow, "MLFLOW_TRACKING_URI"),
        "store": (_store, "VOLVOX_STORE"),
    }  # fmt: skip
    named = {name: ask for name, (ask, variable) in tries.items() if os.environ.get(variable)}
    told: dict[str, dict[str, Any]] = {
        name: {"ok": False, "said": f"no answer within {_ALL_SECONDS:.0f} s"} for name in named
    }
    # A thread that hangs, as a file system over a dead network does, must not keep the others' results.
    threads = [threading.Thread(target=_try, args=(ask, told[name]), daemon=True) for name, ask in named.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_ALL_SECONDS)
    return json.loads(json.dumps(told))  # a late thread changes what was told no more


def exit_code(told: dict[str, dict[str, Any]]) -> int:
    """The exit code that says what failed."""
    bits = sum(BITS[name] for name, one in told.items() if not one["ok"])
    return FAILED + bits if bits else 0


def parse(output: str) -> dict[str, dict[str, Any]] | None:
    """What a probe printed, found among what else a container prints; None if it did not come to that."""
    for line in reversed(output.splitlines()):
        if _MARK in line:
            try:
                return json.loads(line[line.index("{") :])[_MARK]
            except (ValueError, KeyError, TypeError):
                continue
    return None


def failed(code: int) -> dict[str, bool] | None:
    """What failed by the exit code alone: name -> whether it did well; None if it is none of a probe's."""
    if code != 0 and not FAILED < code <= FAILED + sum(BITS.values()):
        return None
    return {name: not (code - FAILED) & bit if code else True for name, bit in BITS.items()}


def _try(ask: Callable[[], str], told: dict[str, Any]) -> None:
    try:
        told.update(ok=True, said=ask())
    except Exception as error:
        told["said"] = " ".join(f"{error}".split())[:500] or type(error).__name__


def _prefect() -> str:
    url = os.environ["PREFECT_API_URL"].rstrip("/")
    _get(f"{url}/health", _prefect_credentials())
    return f"{url} answers"


def _mlflow() -> str:
    url = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is a file or a database, which no job shares; give a server's address")
    headers: dict[str, str] = {}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers = {"Authorization": f"Bearer {token}"}
    elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
        headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    _get(f"{url}/health", headers)
    return f"{url} answers"


def _store() -> str:
    """Write, read and delete one small object."""
    address = os.environ["VOLVOX_STORE"]
    access: dict[str, Any] = {}
    if address.startswith(_BLOCK):
        address, access = _block(address.removeprefix(_BLOCK))
    name, content = f"probe/{uuid.uuid4()}", os.urandom(32)
    if address.startswith("s3://"):
        from volvox.buckets import Access, Bucket

        bucket = Bucket(address, Access(**access))
        bucket.put(name, content)
        found = bucket.get(name)
        bucket.delete([name])
        read = found[0] if found else b""
    else:
        read = _in_folder(Path(address.removeprefix("file://")), name, content)
    if read != content:
        raise ValueError(f"{address} did not give back what was written to it")
    return f"{address} can be written and read"


def _in_folder(root: Path, name: str, content: bytes) -> bytes:
    if not root.is_dir():
        raise ValueError(f"there is no folder {root} in the container; mount the store's folder there, or use a bucket")
    path = root / name
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{root} cannot be written by user {os.getuid()} of the container ({error.strerror}); give the folder to "
            "that user, or run jobs as its owner"
        ) from error
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another probe is at work there
            path.parent.rmdir()


def _block(name: str) -> tuple[str, dict[str, str]]:
    """Address and access that a block of the Prefect server holds, asked as its API is documented."""
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        raise ValueError(f"the store is the Prefect block {name!r}, and PREFECT_API_URL is not set")
    path = f"{url}/block_types/slug/{_BLOCK_TYPE}/block_documents/name/{name}?include_secrets=true"
    data = json.loads(_get(path, _prefect_credentials()))["data"]
    kept = ("endpoint", "region", "access_key_id", "secret_access_key", "session_token")
    return data.get("address", ""), {key: data[key] for key in kept if data.get(key)}


def _prefect_credentials() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if user := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
    return {}


def _get(url: str, headers: dict[str, str]) -> bytes:
    where = url.partition("?")[0]
    if not where.startswith(("http://", "https://")):
        raise ValueError(f"{where} is no http:// or https:// address")
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was looked at
        with urllib.request.urlopen(request, timeout=_ANSWERS_SECONDS) as answer:  # noqa: S310
            return answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{where} answers {error.code}{_http_hint(error.code)}") from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"{where} cannot be reached from the job ({reason}); a job does not share this machine's 127.0.0.1 unless "
            "it has the host's network"
        ) from error


def _http_hint(code: int) -> str:
    hints = {
        401: ": it asks for credentials", 403: ": it refuses this caller, or this name of itself (MLflow: "
        "--allowed-hosts)", 404: ": nothing is there of that name",
    }  # fmt: skip
    return hints.get(code, "")


if __name__ == "__main__":
    sys.exit(main())

"""What stands between OSCAR and a script in its container: event or file in, output files out.

It follows what is known of faas-supervisor: it keeps no exit code of the script, shows what that printed when all is
over, and gives an answer of several files as a zip.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import uuid
import zipfile
from pathlib import Path
from urllib.parse import quote, unquote_plus

STORE, KEY = "OSCAR_STORE", "OSCAR_STORE_KEY"


def main() -> int:
    config = json.loads(Path(os.environ["OSCAR_CONFIG"]).read_text())
    event = sys.stdin.read()
    folder = Path(tempfile.mkdtemp(prefix="supervisor-"))
    given, written = folder / "in", folder / "out"
    given.mkdir()
    written.mkdir()
    try:
        record = _record(event)
        if record is not None:
            place = record["s3"]
            key = unquote_plus(place["object"]["key"])
            path = given / Path(key).name
            path.write_bytes(_asked("GET", place["bucket"]["name"], key))
            told = {"STORAGE_OBJECT_KEY": key, "EVENT_TIME": record["eventTime"], "EVENT": event}
        else:
            path, told = given / f"event-file-{uuid.uuid4()}", {}
            path.write_bytes(_decoded(event))
        environment = {
            **os.environ, **told, "INPUT_FILE_PATH": str(path), "TMP_INPUT_DIR": str(given),
            "TMP_OUTPUT_DIR": str(written),
        }  # fmt: skip
        done = subprocess.run(
            ["/bin/sh", os.environ["OSCAR_SCRIPT"]], input=event.encode(), env=environment, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        files = sorted(one for one in written.rglob("*") if one.is_file())
        if record is not None:
            sys.stdout.buffer.write(done.stdout)
            for one in files:
                _upload(config, written, one)
        else:
            sys.stdout.buffer.write(_answer(written, files, done.stdout))
        sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _record(event: str) -> dict | None:
    try:
        told = json.loads(event)
    except ValueError:
        return None
    records = told.get("Records") if isinstance(told, dict) else None
    return records[0] if records and records[0].get("eventSource") == "minio:s3" else None


def _decoded(event: str) -> bytes:
    try:
        if isinstance(json.loads(event), dict):
            return event.encode()
    except ValueError:
        pass
    try:
        return base64.b64decode(event.strip(), validate=True)
    except binascii.Error:
        sys.exit("the event is neither JSON nor base64")


def _upload(config: dict, folder: Path, path: Path) -> None:
    relative = path.relative_to(folder).as_posix()
    for output in config.get("output") or ():
        prefix, suffix = tuple(output.get("prefix") or ()), tuple(output.get("suffix") or ())
        if (prefix and not relative.startswith(prefix)) or (suffix and not relative.endswith(suffix)):
            continue
        bucket, _, inside = output["path"].strip(" /").partition("/")
        _asked("PUT", bucket, f"{inside}/{relative}", path.read_bytes())


def _answer(folder: Path, files: list[Path], printed: bytes) -> bytes:
    if not files:
        return printed
    if len(files) == 1:
        return base64.b64encode(files[0].read_bytes())
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for one in files:
            archive.write(one, one.relative_to(folder).as_posix())
    return base64.b64encode(held.getvalue())


def _asked(method: str, bucket: str, key: str, body: bytes | None = None) -> bytes:
    url = f"{os.environ[STORE]}/{bucket}/{quote(key)}"
    request = urllib.request.Request(url, data=body, method=method, headers={"X-Store-Key": os.environ[KEY]})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return answer.read()


if __name__ == "__main__":
    sys.exit(main())

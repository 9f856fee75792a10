"""Definitions in each of the three forms, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.reading import Definitions, read

OWN = """\
model: digits
runtime: local
places: {in: drop, out: answers}
"""

SCAR = """\
functions:
  aws:
  - lambda:
      name: frames
      container:
        image: example/ffmpeg:4
        environment:
          Variables: {FPS: 2}
      init_script: frames.sh
      memory: 1024
      timeout: 600
      input:
      - storage_provider: s3
        path: films/new
      output:
      - storage_provider: s3.archive
        path: films/frames
        suffix: [png]
        prefix: [f-]
    api_gateway:
      name: films
storage_providers:
  s3:
    archive:
      access_key: AKIAHUNTER
      secret_key: hunter2
      region: eu-west-1
"""

OSCAR = """\
functions:
  oscar:
  - site-a:
      name: plants
      image: example/plants
      script: plants.sh
      memory: 2Gi
      cpu: 1.0
      log_level: CRITICAL
      environment:
        Variables:
          LIMIT: 5
        Secrets:
          LOGIN: hunter2
      input:
      - storage_provider: minio.default
        path: /incoming/
      output:
      - storage_provider: minio.default
        path: plants/output
      synchronous:
        max_scale: 3
clusters:
  site-a:
    endpoint: https://oscar.example.org
    auth_user: oscar
    auth_password: hunter2
"""


def written(folder: Path, text: str, name: str = "functions.yaml") -> Path:
    """The file, and beside it every script that these examples name."""
    folder.mkdir(parents=True, exist_ok=True)
    for script in ("frames.sh", "plants.sh"):
        (folder / script).write_text(f"#!/bin/sh\r\necho {script}\n")
    path = folder / name
    path.write_text(text)
    return path


def defined(folder: Path, text: str, name: str = "functions.yaml") -> Definitions:
    return read(written(folder, text, name))


def refused(folder: Path, text: str) -> str:
    """What is said of a file with this text, from `:LINE:` on."""
    path = written(folder, text)
    with pytest.raises(InvalidInput) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).replace(str(path), "")


def only(folder: Path, text: str) -> Function:
    [function] = defined(folder, text).functions
    return function

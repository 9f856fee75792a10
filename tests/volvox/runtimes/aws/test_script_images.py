"""Images of scripts, with and without a Python of their own, as Docker builds and runs them."""

from __future__ import annotations

import io
import subprocess
import tarfile
import uuid
from collections.abc import Iterator

import pytest

from tests.engines import engine_environment
from tests.volvox.runner.runtime_api import RuntimeApi
from tests.volvox.runner.test_container import call, event
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes.aws import images, script_images

pytestmark = [pytest.mark.docker, pytest.mark.apart]

NAME = f"t-{uuid.uuid4().hex[:10]}"  # an engine may be another run's too, and images are named after their function
SCRIPT = '#!/bin/sh\ntr a-z A-Z < "$INPUT_FILE_PATH"; echo; command -v python3 || echo none\n'


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    told = engine_environment(["docker"])
    monkeypatch.setenv("ENGINE_BASE_IMAGE", told["ENGINE_BASE_IMAGE"])
    yield told["ENGINE_BASE_IMAGE"]
    script_images.forget(NAME)


@pytest.fixture
def without_python(base: str) -> Iterator[str]:
    """An image that has a shell and no Python."""
    yield from made(f'FROM {base}\nRUN rm -f "$(command -v python3)" /usr/bin/python3* /usr/local/bin/python3*\n')


@pytest.fixture
def of_a_user(base: str) -> Iterator[str]:
    """An image of an ordinary user, whose programs write no bytecode."""
    yield from made(f"FROM {base}\nENV PYTHONDONTWRITEBYTECODE=1\nUSER 1000:1000\n")


def made(text: str) -> Iterator[str]:
    """An image of this Dockerfile."""
    name = f"volvox-tests/script-base:{uuid.uuid4().hex[:8]}"
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    done = subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=target.getvalue(), capture_output=True)
    assert done.returncode == 0, done.stderr
    yield name
    subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


def built(image: str, **more) -> images.Source:
    function = Function.model_validate({"name": NAME, "image": image, "script": SCRIPT, **more})
    return images.source_of(function, None, None)  # type: ignore[arg-type]


def answers(image: str) -> dict:
    """What the image answers to one call, started as Lambda starts it."""
    names = ("AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_VERSION")
    given = [part for name in names for part in ("-e", name)]
    name = f"volvox-tests-{uuid.uuid4().hex[:8]}"
    line = [
        "docker",
        "run",
        "--rm",
        "--name",
        name,
        "--network",
        "host",
        "--read-only",
        "--tmpfs",
        "/tmp",
        *given,
        image,
    ]
    try:
        with RuntimeApi(line) as api:
            return api.ask(event(call()))["volvox"]["outcomes"][0]
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)


def test_an_image_is_built_once_and_anew_when_its_script_changes(base: str) -> None:
    first, second = built(base), built(base)
    assert first == second and first.architecture == "x86_64" and first.size > 0
    told = answers(first.id)
    assert told["kind"] == "" and told["printed"].splitlines()[0] == "CONTENT", told
    other = built(base, script="echo other")  # which takes the name, and with it the first one's place
    assert other.digest != first.digest and answers(other.id)["printed"] == "other\n"


def test_one_without_python_is_refused_with_what_to_do(without_python: str) -> None:
    with pytest.raises(InvalidInput, match=r"no `python3` from 3\.8 on"):
        built(without_python)


def test_an_image_that_is_not_there_and_one_without_a_script_are_told(base: str) -> None:
    with pytest.raises(InvalidInput, match="no-such-image"):
        built("127.0.0.1:5000/volvox-tests/no-such-image:1")
    with pytest.raises(InvalidInput, match="neither a script nor a command"):
        built(base, script="")


def test_nothing_is_compiled_at_a_cold_start_and_the_image_keeps_its_user(of_a_user: str) -> None:
    made = built(of_a_user)
    line = ["docker", "run", "--rm", "-e", "PYTHONDONTWRITEBYTECODE=", "--entrypoint", "python3", made.id, "-v"]
    words = [*line, f"{script_images.INSIDE}/container.py", "imported"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    read = [line for line in done.stderr.splitlines() if line.startswith("# code object from")]
    assert len(read) > 50 and [line for line in read if not line.endswith(".pyc'")] == []
    told = subprocess.run(["docker", "inspect", "-f", "{{.Config.User}}", made.id], capture_output=True, text=True)
    assert told.stdout.strip() == "1000:1000"
    assert answers(made.id)["kind"] == ""

"""A script's image for AWS: the script's own, with our runner in it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import volvox.runner
from volvox.errors import InvalidInput, VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of, files_digest
from volvox.runtimes.aws.account import name_of
from volvox.runtimes.aws.images import Source, docker_name, engine, inspected, source_here

ARCHIVE = "docker-archive:"
INSIDE = "/opt/volvox-runner"
_DIGEST_LABEL = "volvox.function-image"
_CHECK = "import sys; sys.exit(sys.version_info < (3, 8))"


def of_script(function: Function) -> Source:
    if not function.script and not function.command:
        raise InvalidInput(
            f"function {function.name!r} has neither a script nor a command: on AWS its image's own command would not "
            "know of events; give one"
        )
    with engine() as api:
        base = _base(api, function.image)
        recipe = {"script": function.script, "command": list(function.command)}
        digest = digest_of(["function image", base["Id"], _runner_digest(), recipe])
        found = api.images(filters={"label": f"{_DIGEST_LABEL}={digest}"}, quiet=True)
        image = found[0] if found else _built(api, function.image, base, recipe, digest)
        _name(api, image, function.name, digest)
        here = inspected(api, image)
        assert here is not None
        return source_here(here, digest)


def _built(api: Any, name: str, base: dict[str, Any], recipe: dict[str, Any], digest: str) -> str:
    """The image with our runner in it."""
    user = str(base.get("Config", {}).get("User") or "")
    try:
        return _build(api, name, _dockerfile(base["Id"], user, digest), recipe)
    except _NoPython:
        raise InvalidInput(
            f"the image {name} has no `python3` from 3.8 on, which answers AWS' events there: add one to the image, or "
            "name runtime docker, where any image runs"
        ) from None


def _name(api: Any, image: str, function: str, digest: str) -> None:
    """Name it after its function, so that it stays, and take that name away from what the function was before."""
    repository = f"volvox-functions/{name_of(function).lower()}"
    wanted = f"{repository}:{digest[:32]}"
    names = [name for one in api.images(name=repository) for name in one["RepoTags"] or ()]
    if wanted not in names:
        api.tag(image, repository, digest[:32], force=True)
    _unname(api, [other for other in names if other != wanted])


def forget(function: str) -> None:
    """Take the names away that images of a function have here; without an engine there are none."""
    with contextlib.suppress(VolvoxError), engine() as api:
        images = api.images(name=f"volvox-functions/{name_of(function).lower()}")
        _unname(api, [name for one in images for name in one["RepoTags"] or ()])


def _unname(api: Any, names: list[str]) -> None:
    import docker.errors

    for name in names:
        with contextlib.suppress(docker.errors.APIError):  # a container of it runs
            api.remove_image(name)


def _dockerfile(base: str, user: str, digest: str) -> str:
    """The text of the Dockerfile.

    Bytecode is written in it, of the runner and of what it imports: Lambda's disk is read-only, and images of Python
    come without that of the standard library, so each cold start would compile it.
    """
    return (
        f"FROM {base}\n"
        "USER 0\n"
        f"COPY runner {INSIDE}\n"
        f'RUN ["python3", "-c", "{_CHECK}"]\n'
        f'RUN ["python3", "{INSIDE}/container.py", "imported"]\n'
        + (f"USER {user}\n" if user else "")
        + f'ENTRYPOINT ["python3", "{INSIDE}/container.py"]\n'
        "CMD []\n"
        f'LABEL {_DIGEST_LABEL}="{digest}"\n'  # the last step: no image on the way to this one is taken for it
    )


def _build(api: Any, name: str, dockerfile: str, recipe: dict[str, Any]) -> str:
    image, step = "", ""
    for line in api.build(
        fileobj=_context(dockerfile, recipe), custom_context=True, rm=True, forcerm=True, decode=True
    ):  # fmt: skip
        if match := re.match(r"Step \d+/\d+ : (.*)", line.get("stream", "")):
            step = match[1]
        if "error" in line:
            if step.startswith('RUN ["python3"'):
                raise _NoPython
            said = line["error"].strip()[-300:]
            raise InvalidInput(f"no function can be made of the image {name}: the step `{step[:120]}` failed: {said}")
        image = line.get("aux", {}).get("ID") or image
    return image


class _NoPython(Exception):
    """The image has no Python that will do."""


def _context(dockerfile: str, recipe: dict[str, Any]) -> io.BytesIO:
    """The build's files: their names, bytes and nothing else, so that equal ones make equal images."""
    target = io.BytesIO()
    files = {"Dockerfile": dockerfile.encode(), "runner/function.json": json.dumps(recipe).encode()}
    files |= {f"runner/{path.name}": path.read_bytes() for path in _runner_files()}
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, body in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o644
            archive.addfile(entry, io.BytesIO(body))
    target.seek(0)
    return target


def _runner_files() -> list[Path]:
    return sorted(Path(str(volvox.runner.__file__)).parent.glob("*.py"))


def _runner_digest() -> str:
    files = _runner_files()
    return files_digest(files[0].parent, files)


def _base(api: Any, image: str) -> dict[str, Any]:
    """The script's image on this engine, fetched or loaded if it is not there."""
    if image.startswith(ARCHIVE):
        path = Path(image.removeprefix(ARCHIVE))
        try:
            with path.open("rb") as stream:
                for line in api.load_image(stream):
                    if "error" in line:
                        raise InvalidInput(f"{path} is no image that `docker save` wrote: {line['error']}")
                    if match := re.search(r"Loaded image(?: ID)?: (\S+)", line.get("stream", "")):
                        image = match[1]
        except OSError as error:
            raise InvalidInput(f"the image file {path} cannot be read ({error.strerror})") from error
    if (found := inspected(api, image)) is None:
        import docker.errors

        repository, tag = docker_name(image)
        try:
            api.pull(repository, tag=tag)
        except docker.errors.APIError as error:
            raise InvalidInput(f"the image {image} cannot be fetched: {error.explanation or error}") from error
        found = inspected(api, image)
    if found is None:
        raise InvalidInput(f"the image {image} is not there")
    return found

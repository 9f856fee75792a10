"""The image that a function runs in on AWS: the model's serving image, or the script's own with our runner in it.

It must lie in a registry that AWS reads: ECR, where it is pushed with the credentials of the account, or the one that
VOLVOX_REGISTRY names where another server speaks for AWS. It is named by its content, so pushing twice sends nothing.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import volvox.runner
from volvox.errors import InvalidInput, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of, files_digest
from volvox.runtimes.aws.account import Account, is_missing, name_of, section, tags, told
from volvox.runtimes.models import Model, Models

ARCHIVE = "docker-archive:"
INSIDE = "/opt/volvox-runner"
_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
_SILENCE_SECONDS = 900
_DIGEST_LABEL = "volvox.function-image"
_READ_BY_LAMBDA = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "lambda",
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        }
    ],
}
_CHECK = "import sys; sys.exit(sys.version_info < (3, 8))"


@dataclass(frozen=True, slots=True)
class Source:
    """An image as it is before it is where AWS reads it.

    Attributes:
        id: Id on the container engine here; empty: it is only in a registry.
        pushed: Its reference by digest in a registry, or empty.
        architecture: `x86_64` or `arm64`; empty: nobody could tell.
        size: Bytes, uncompressed; 0: not known.
        digest: What it is recognised by.
    """

    id: str
    pushed: str
    architecture: str
    size: int
    digest: str


def source_of(function: Function, models: Models, model: Model | None) -> Source:
    """The image of a function, built where it must be.

    Raises:
        InvalidInput: If there is none, or it has no Python for our runner.
        Unavailable: If the container engine does not answer.
    """
    if model is not None:
        return _of_model(models, model)
    return _of_script(function)


def wanted_architecture(function: Function) -> str:
    """The processor that the definition asks for (`lambda.architectures`): `x86_64` or `arm64`.

    Raises:
        InvalidInput: If it asks for another one, or several.
    """
    given = section(function, "lambda").get("architectures") or ["x86_64"]
    names = [str(one) for one in (given if isinstance(given, list | tuple) else [given])]
    if len(names) != 1 or names[0] not in ("x86_64", "arm64"):
        raise InvalidInput(f"lambda.architectures is {', '.join(names)}; give x86_64 or arm64, one of them")
    return names[0]


def check_architecture(function: Function, source: Source) -> None:
    """Refuse an image that was built for another processor than the function is to run on.

    Raises:
        InvalidInput: If it was.
    """
    wanted = wanted_architecture(function)
    if source.architecture and source.architecture != wanted:
        raise InvalidInput(
            f"the image of function {function.name!r} was built for {source.architecture}, and it is to run on "
            f"{wanted}: build it for {wanted}, or say lambda.architectures: [{source.architecture}]"
        )


def placed(account: Account, function: Function, source: Source, owner: str) -> str:
    """The image's reference where AWS reads it; pushed there if it is not yet.

    Raises:
        InvalidInput: If there is no registry, or it may not be written to.
        Unavailable: If the registry or the engine does not answer.
    """
    if source.pushed and (not account.is_amazon or ".dkr.ecr." in source.pushed):
        return source.pushed
    if not source.id:
        raise InvalidInput(
            f"the image {source.pushed} is not in ECR, where AWS reads images, and not on the container engine here; "
            "pull it, or run the cycle again"
        )
    if not account.is_amazon:
        registry = os.environ.get("VOLVOX_REGISTRY", "")
        if not registry:
            raise InvalidInput("the server that speaks for AWS has no registry of images: set VOLVOX_REGISTRY to one")
        return _pushed(source.id, f"{registry}/{name_of(function.name).lower()}", source.digest[:32], None)
    return _in_ecr(account, function, source, owner)


def remove(account: Account, function: str) -> None:
    """Remove the repository that was made for a function in ECR."""
    ecr, name = account.client("ecr"), name_of(function).lower()
    from botocore.exceptions import ClientError

    with told(f"remove the repository {name}"):
        try:
            ecr.delete_repository(repositoryName=name, force=True)
        except ClientError as error:
            if not is_missing(error):
                raise


def _in_ecr(account: Account, function: Function, source: Source, owner: str) -> str:
    from botocore.exceptions import ClientError

    ecr, name, tag = account.client("ecr"), name_of(function.name).lower(), source.digest[:32]
    with told(f"push an image to the repository {name}"):
        try:
            uri = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]
        except ClientError as error:
            if not is_missing(error):
                raise
            made = [{"Key": key, "Value": value} for key, value in tags(function.name, owner).items()]
            uri = ecr.create_repository(repositoryName=name, tags=made)["repository"]["repositoryUri"]
            ecr.set_repository_policy(repositoryName=name, policyText=json.dumps(_READ_BY_LAMBDA))
        try:
            found = ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": tag}])["imageDetails"]
            return f"{uri}@{found[0]['imageDigest']}"
        except ClientError as error:
            if not is_missing(error):
                raise
        data = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(data).decode().partition(":")
    return _pushed(source.id, uri, tag, {"username": user, "password": password})


def looked_at(image: str) -> Source | None:
    """An image as the engine here has it; None if it has not. Nothing is fetched.

    Raises:
        Unavailable: If no engine answers.
    """
    with _engine() as api:
        here = _inspected(api, image)
        if here is None:
            return None
        return Source(here["Id"], "", _architecture(here), int(here["Size"]), digest_of(["image", here["Id"]]))


# -- the container engine here ---------------------------------------------------------------------------------------


def _of_model(models: Models, model: Model) -> Source:
    image = models.image(model)
    if image is None:
        raise InvalidInput(
            f"model {model.name!r}, version {model.version}, has no serving image: run the cycle again with a "
            "container engine (`volvox cycle`), or name runtime local"
        )
    with contextlib.suppress(Unavailable), _engine() as api:
        if image.image_id and (here := _inspected(api, image.image_id)):
            return Source(
                here["Id"], image.pushed, _architecture(here), int(here["Size"]), digest_of(["image", here["Id"]])
            )
        if image.pushed:
            return Source("", image.pushed, _distributed(api, image.pushed), image.bytes, digest_of(image.pushed))
    if image.pushed:
        return Source("", image.pushed, "", image.bytes, digest_of(image.pushed))
    raise InvalidInput(
        f"the serving image {image.name} is not on the container engine here, and it was pushed to no registry: run "
        "the cycle again, or set VOLVOX_REGISTRY"
    )


def _of_script(function: Function) -> Source:
    if not function.script and not function.command:
        raise InvalidInput(
            f"function {function.name!r} has neither a script nor a command: on AWS its image's own command would not "
            "know of events; give one"
        )
    with _engine() as api:
        base = _base(api, function.image)
        recipe = {"script": function.script, "command": list(function.command)}
        digest = digest_of(["function image", base["Id"], _runner_digest(), recipe])
        found = api.images(filters={"label": f"{_DIGEST_LABEL}={digest}"}, quiet=True)
        image = found[0] if found else _built(api, function.image, base["Id"], recipe, digest)
        here = _inspected(api, image)
        assert here is not None
        return Source(here["Id"], "", _architecture(here), int(here["Size"]), digest)


def _built(api: Any, name: str, base: str, recipe: dict[str, Any], digest: str) -> str:
    text = (
        f"FROM {base}\n"
        f"COPY runner {INSIDE}\n"
        f'RUN ["python3", "-c", "{_CHECK}"]\n'
        f'RUN ["python3", "-m", "compileall", "-q", "{INSIDE}"]\n'  # Lambda's disk is read-only: now or never
        f'LABEL {_DIGEST_LABEL}="{digest}"\n'
        f'ENTRYPOINT ["python3", "{INSIDE}/container.py"]\n'
        "CMD []\n"
    )
    image, said = "", ""
    for line in api.build(fileobj=_context(text, recipe), custom_context=True, rm=True, forcerm=True, decode=True):
        if "error" in line:
            if "python3" in line["error"]:
                raise InvalidInput(
                    f"the image {name} has no `python3` from 3.8 on, which answers AWS' events there: add one to the "
                    "image, or name runtime docker, where any image runs"
                )
            raise InvalidInput(f"no function can be made of the image {name}: {line['error'].strip()[-300:]}{said}")
        image = line.get("aux", {}).get("ID") or image
    return image


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
    if (found := _inspected(api, image)) is None:
        import docker.errors

        repository, tag = docker_name(image)
        try:
            api.pull(repository, tag=tag)
        except docker.errors.APIError as error:
            raise InvalidInput(f"the image {image} cannot be fetched: {error.explanation or error}") from error
        found = _inspected(api, image)
    if found is None:
        raise InvalidInput(f"the image {image} is not there")
    return found


def docker_name(image: str) -> tuple[str, str | None]:
    """Repository and tag of a reference, as an engine is asked to pull it."""
    if "@" in image:
        return image, None
    repository, colon, tag = image.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (image, "latest")


def _pushed(image: str, repository: str, tag: str, login: dict[str, str] | None) -> str:
    with _engine() as api:
        api.tag(image, repository, tag, force=True)
        digest = ""
        try:
            for line in api.push(repository, tag=tag, stream=True, decode=True, auth_config=login):
                if "error" in line:
                    raise Unavailable(f"the image cannot be pushed to {repository}: {line['error'][:300]}")
                digest = line.get("aux", {}).get("Digest") or digest
        finally:
            with contextlib.suppress(Exception):
                api.remove_image(f"{repository}:{tag}", noprune=True)  # that name only
    return f"{repository}@{digest}" if digest else f"{repository}:{tag}"


def _inspected(api: Any, image: str) -> dict[str, Any] | None:
    import docker.errors

    try:
        return api.inspect_image(image)
    except docker.errors.ImageNotFound:
        return None


def _distributed(api: Any, reference: str) -> str:
    """The processor of an image that is in a registry only; empty if it cannot be told."""
    import docker.errors

    try:
        platforms = api.inspect_distribution(reference).get("Platforms") or []
    except docker.errors.APIError:
        return ""
    names = {_ARCHITECTURES.get(str(one.get("architecture")), "") for one in platforms}
    return names.pop() if len(names) == 1 else ""


def _architecture(inspected: dict[str, Any]) -> str:
    return _ARCHITECTURES.get(str(inspected.get("Architecture")), "")


@contextlib.contextmanager
def _engine() -> Iterator[Any]:
    """The Docker engine's API, its errors as ours."""
    try:
        import docker
        import docker.errors
        import requests
    except ImportError:
        raise InvalidInput("images for AWS are made by Docker: pip install 'volvox[cycle]'") from None
    try:
        api = docker.APIClient(
            base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=_SILENCE_SECONDS
        )  # fmt: skip
    except docker.errors.DockerException as error:
        raise Unavailable(f"no container engine answers here, which images for AWS are made on ({error})") from error
    try:
        yield api
    except docker.errors.APIError as error:
        raise VolvoxError(f"the container engine refuses: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Unavailable(f"the container engine did not answer ({error})") from error
    finally:
        api.close()

"""The image that a function runs in on AWS: the model's serving image, or the script's own with our runner in it.

It must lie in a registry that AWS reads: ECR, where it is pushed with the credentials of the account, or the one that
VOLVOX_REGISTRY names where another server speaks for AWS. It is named by its content, so pushing twice sends nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from volvox.errors import InvalidInput, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.runtimes.aws.account import Account, is_missing, name_of, section, tags, told
from volvox.runtimes.models import Model, Models

_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
_SILENCE_SECONDS = 900
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
        InvalidInput: If there is none, or our runner cannot be put into it.
        Unavailable: If the container engine does not answer.
    """
    if model is not None:
        return _of_model(models, model)
    from volvox.runtimes.aws.script_images import of_script

    return of_script(function)


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
    with engine() as api:
        here = inspected(api, image)
        if here is None:
            return None
        return source_here(here)


def source_here(here: dict[str, Any], digest: str = "", pushed: str = "") -> Source:
    """An image of the engine here, as it told of it; by its id, unless `digest` says what it is recognised by."""
    architecture = _ARCHITECTURES.get(str(here.get("Architecture")), "")
    return Source(here["Id"], pushed, architecture, int(here["Size"]), digest or digest_of(["image", here["Id"]]))


# -- the container engine here ---------------------------------------------------------------------------------------


def _of_model(models: Models, model: Model) -> Source:
    image = models.image(model)
    if image is None:
        raise InvalidInput(
            f"model {model.name!r}, version {model.version}, has no serving image: run the cycle again with a "
            "container engine (`volvox cycle`), or name runtime local"
        )
    with contextlib.suppress(Unavailable), engine() as api:
        if image.image_id and (here := inspected(api, image.image_id)):
            return source_here(here, pushed=image.pushed)
        if image.pushed:
            return Source("", image.pushed, _distributed(api, image.pushed), image.bytes, digest_of(image.pushed))
    if image.pushed:
        return Source("", image.pushed, "", image.bytes, digest_of(image.pushed))
    raise InvalidInput(
        f"the serving image {image.name} is not on the container engine here, and it was pushed to no registry: run "
        "the cycle again, or set VOLVOX_REGISTRY"
    )


def docker_name(image: str) -> tuple[str, str | None]:
    """Repository and tag of a reference, as an engine is asked to pull it."""
    if "@" in image:
        return image, None
    repository, colon, tag = image.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (image, "latest")


def _pushed(image: str, repository: str, tag: str, login: dict[str, str] | None) -> str:
    with engine() as api:
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


def inspected(api: Any, image: str) -> dict[str, Any] | None:
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


@contextlib.contextmanager
def engine() -> Iterator[Any]:
    """The Docker engine's API, its errors as ours."""
    try:
        import docker
        import docker.errors
        import docker.utils
        import requests
    except ImportError:
        raise InvalidInput("images for AWS are made by Docker: pip install 'volvox[cycle]'") from None
    try:
        told = docker.utils.kwargs_from_env()
        api = docker.APIClient(**{**told, "version": "auto", "timeout": _SILENCE_SECONDS})
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

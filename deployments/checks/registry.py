"""Whether an image's manifest can be had from its registry, asked by HTTP as `docker pull` would ask."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

from deployments.checks.check import Check

_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)  # fmt: skip
_ANSWERS_SECONDS = 10.0
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LOCAL = re.compile(r"^(localhost|127\.\d+\.\d+\.\d+)(:\d+)?$")


def parts(image: str) -> tuple[str, str, str]:
    """Registry, repository and tag or digest of a reference, with what Docker adds where something is left out."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, name = first, rest
    else:
        registry, name = "registry-1.docker.io", image if slash else f"library/{image}"
    if "@" in name:
        name, _, reference = name.partition("@")
        return registry, name.partition(":")[0], reference
    name, colon, tag = name.partition(":")
    return registry, name, tag if colon else "latest"


async def manifest(image: str) -> Check:
    """Ask for the image's manifest with the credentials of `docker login`, without fetching anything."""
    import httpx

    registry, repository, reference = parts(image)
    scheme = "http" if _LOCAL.match(registry) else "https"
    url = f"{scheme}://{registry}/v2/{repository}/manifests/{reference}"
    login = _login(registry)
    headers = {"Accept": _ACCEPT}
    try:
        async with httpx.AsyncClient(timeout=_ANSWERS_SECONDS, follow_redirects=True) as client:
            answer = await client.head(url, headers=headers)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                allowed = await _authorization(client, answer.headers.get("www-authenticate", ""), login)
                if allowed:
                    answer = await client.head(url, headers={**headers, "Authorization": allowed})
    except httpx.HTTPError as error:
        return Check(
            "image", None, f"the registry {registry} does not answer here ({type(error).__name__}); the engine may "
            "reach it all the same", f"make {registry} reachable, or have {image} on the engine",
        )  # fmt: skip
    return told(image, registry, answer.status_code, bool(login))


def told(image: str, registry: str, status: int, logged_in: bool) -> Check:
    """What a registry's answer to the question for a manifest means."""
    if status == 200:
        return Check("image", True, f"{registry} has {image}")
    if status in (401, 403):
        said = "refuses these credentials for" if logged_in else "asks for credentials for"
        return Check(
            "image", False, f"{registry} {said} {image} ({status})",
            f"`docker login {registry}` as somebody who may pull it, and give the pool the same credentials "
            "(docker: registry_credentials, kubernetes: image_pull_secrets, ecs: the execution role)",
        )  # fmt: skip
    if status == 404:
        return Check(
            "image", False, f"{registry} has no {image}", "push it (`make images`), or correct the pool's `image`"
        )
    if status == 429:
        return Check("image", None, f"{registry} answers 429: too many requests", "wait, or `docker login`")
    return Check("image", None, f"{registry} answers {status} to the question for {image}", "ask its operator")


async def _authorization(client: Any, challenge: str, login: tuple[str, str] | None) -> str:
    """The header that answers a registry's challenge; empty if there is none."""
    import httpx

    kind, _, rest = challenge.partition(" ")
    basic = "Basic " + base64.b64encode(":".join(login).encode()).decode() if login else ""
    if kind.lower() == "basic":
        return basic
    asked = dict(_CHALLENGE.findall(rest))
    if kind.lower() != "bearer" or "realm" not in asked:
        return ""
    realm = asked.pop("realm")
    answer = await client.get(realm, params=asked, headers={"Authorization": basic} if basic else {})
    if answer.status_code != httpx.codes.OK:
        return ""
    token = answer.json()
    return f"Bearer {token.get('token') or token.get('access_token')}"


def _login(registry: str) -> tuple[str, str] | None:
    """User and password of `docker login`, where they stand in its file; a credential store is not asked."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        kept = json.loads((folder / "config.json").read_text()).get("auths", {})
    except (OSError, ValueError):
        return None
    names = (registry, f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/")
    if registry == "registry-1.docker.io":
        names = ("https://index.docker.io/v1/", "docker.io", *names)
    for name in names:
        if coded := (kept.get(name) or {}).get("auth"):
            user, _, password = base64.b64decode(coded).decode().partition(":")
            return user, password
    return None

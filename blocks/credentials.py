"""Credentials that an operator saved as a block, in the words of a function's place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from pydantic import SecretBytes, SecretStr

from volvox.errors import InvalidInput, NotFound, Unavailable

# What blocks of other makers call it -> what a place does.
_WORDS = {
    "aws_access_key_id": "access_key",
    "minio_root_user": "access_key",
    "aws_secret_access_key": "secret_key",
    "minio_root_password": "secret_key",
    "aws_session_token": "session_token",
    "region_name": "region",
    "endpoint_url": "endpoint",
}


def held(name: str) -> Mapping[str, Any]:
    """What the saved block `TYPE/NAME` holds: `aws-credentials/lake`, `secret/lake` with a JSON object as its value.

    Raises:
        NotFound: If there is no such block.
        InvalidInput: If it holds no credentials.
        Unavailable: If the Prefect server does not answer.
    """
    import httpx

    slug = name if "/" in name else f"secret/{name}"
    try:
        block: Any = Block.load(slug, validate=False)
    except ValueError as error:
        raise NotFound(f"there is no block {slug}; save one in Prefect, or correct the definition") from error
    except httpx.TransportError as error:
        raise Unavailable(f"the Prefect server does not answer, so block:{name} cannot be read") from error
    told = _plain(block.get() if isinstance(block, Secret) else block.model_dump())
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except ValueError:
            told = None
    if not isinstance(told, dict):
        raise InvalidInput(f'block:{name} holds no credentials; its value must be an object, as {{"access_key": ...}}')
    inner = told.get("aws_client_parameters")
    merged = {**told, **(inner if isinstance(inner, dict) else {})}
    return {
        _WORDS.get(key, key): value
        for key, value in merged.items()
        if isinstance(key, str) and isinstance(value, str | bool) and value != ""
    }


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr | SecretBytes):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value

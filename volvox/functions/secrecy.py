"""Secrets of definition files: never kept, only where they stand (`file:PATH#KEY`, `block:NAME`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volvox.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from volvox.functions.document import Value

_SECRET = re.compile(
    r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|AUTHORIZATION|(^|_)(API|ACCESS|PRIVATE|AUTH)_?KEY$|^PASS$|_PASS$",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(
    r"(_FILE|_PATH|_URL|_URI|_ARN|_SECONDS|_ENDPOINT|^TOKENS?_.*(COUNT|MAX)|^MAX_.*TOKENS?|^AWS_ACCESS_KEY_ID"
    r"|^image_pull_secrets|^access_token_expiration)$",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\s*\{\{\s*(.+?)\s*\}\}\s*", re.DOTALL)
_PREFECT = re.compile(r"prefect\.(blocks|variables)\.[^{}]+")
_FILE = re.compile(r"file:.+#.+", re.DOTALL)


def names_secret(name: str) -> bool:
    """Whether what stands under `name` is most likely a secret."""
    return bool(_SECRET.search(name)) and not _NO_SECRET.search(name)


def is_reference(text: str) -> bool:
    """Whether it says where a value stands: `{{ file:PATH#KEY }}` or `{{ prefect.blocks.secret.NAME }}`."""
    told = _REFERENCE.fullmatch(text)
    return told is not None and bool(_FILE.fullmatch(told[1]) or _PREFECT.fullmatch(told[1]))


def reference_to(value: Value) -> str:
    """What is kept instead of a secret that stands in a file: where it is read again when it is needed."""
    return f"{{{{ {place_of(value)} }}}}"


def place_of(value: Value) -> str:
    """`file:PATH#KEY` of what stands in a file."""
    return f"file:{Path(value.file).absolute()}#{value.key}"


def credentials(reference: str) -> dict[str, Any]:
    """The credentials that `Function.providers` names as `file:PATH#KEY`, read from that file now.

    Args:
        reference: Such a name; a block (`block:NAME`) is asked by whoever may import Prefect.

    Returns:
        What stands there, e.g. `{"access_key": ..., "secret_key": ..., "region": ...}`; names in lower case.

    Raises:
        InvalidInput: If it is no such name, or the file cannot be read any more.
        NotFound: If nothing stands there any more.
    """
    found = _standing(reference)
    if found.kind != "map":
        raise NotFound(f"{found.where}: {found.key} holds no credentials any more; apply the function's file again")
    return {name.lower(): value.plain() for name, value in found.entries}


def resolved(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with the values that `{{ file:PATH#KEY }}` stands for; all others are left as they are.

    Raises:
        InvalidInput, NotFound: As for `credentials`.
    """
    return {name: secret(value) for name, value in environment.items()}


def secret(text: str) -> str:
    """What `{{ file:PATH#KEY }}` stands for; any other text is itself.

    Raises:
        InvalidInput, NotFound: As for `credentials`.
    """
    told = _REFERENCE.fullmatch(text)
    if told is None or not _FILE.fullmatch(told[1]):
        return text
    from volvox.functions.values import variable

    return variable(_standing(told[1]))


def _standing(reference: str) -> Value:
    from volvox.functions.document import read_documents, read_text

    if not _FILE.fullmatch(reference):
        raise InvalidInput(f"{reference!r} does not say where credentials stand; write file:PATH#KEY or block:NAME")
    parts = reference.removeprefix("file:").split("#")
    # Either may hold a `#` itself; the longest beginning that is a file counts.
    splits = [("#".join(parts[:end]), "#".join(parts[end:])) for end in range(len(parts) - 1, 0, -1)]
    name, key = next((split for split in splits if Path(split[0]).is_file()), splits[-1])
    for document in read_documents(read_text(Path(name)), name):
        if (found := _below(document, key.split("."))) is not None:
            return found
    raise NotFound(f"{name} no longer has {key}; put it back, or apply the function's file again")


def _below(value: Value, parts: list[str]) -> Value | None:
    """The value under dotted keys, which may hold dots themselves."""
    if not parts:
        return value
    if value.kind == "list":
        number = int(parts[0]) if parts[0].isdecimal() and len(parts[0]) < 6 else len(value.items)
        return _below(value.items[number], parts[1:]) if number < len(value.items) else None
    for end in range(len(parts), 0, -1):
        inner = value.get(".".join(parts[:end]))
        if inner is not None and (found := _below(inner, parts[end:])) is not None:
            return found
    return None

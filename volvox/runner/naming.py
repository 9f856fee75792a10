"""Names of answers: the same wherever they are written from, so that one job has one answer."""

from __future__ import annotations

from pathlib import PurePosixPath

_LONGEST_NAME = 240  # bytes; a disk takes 255, and a suffix follows


def model_answer(relative: str, job: str, path: str) -> str:
    """The key below an output folder of what a model answered to the file `relative`.

    It keeps the folders of its input and is named after it and the job: `ann/cat.png` becomes
    `ann/cat.png.1a2b3c4d.json`, so another version of the object has another answer and the same one is never written
    twice.

    Args:
        relative: The object's key below the function's input folder.
        job: The job's id.
        path: The file that was written, whose suffix counts; empty: the beginning that all such names have.
    """
    folder, slash, name = relative.rpartition("/")
    return f"{folder}{slash}{_stem(name, job)}{PurePosixPath(path).suffix}"


def below(folder: str, key: str) -> str:
    """The key `key` below a folder.

    Raises:
        ValueError: If it would lead out of it.
    """
    folder = folder.strip("/")
    path = f"{folder}/{key}" if folder else key
    if ".." in path.split("/"):
        raise ValueError(f"an output would be written to {path!r}, which leaves its folder")
    return path


def _stem(name: str, job: str) -> str:
    """What an answer's name begins with; shortened where no disk would take it, as the job's id tells them apart."""
    room = _LONGEST_NAME - 9
    return f"{name.encode()[:room].decode(errors='ignore') if len(name.encode()) > room else name}.{job[:8]}"

"""`deepaas-predict`: one file or URL in, one file out (DEEPaaS itself has left it behind; `deepaas-cli` does more)."""

from __future__ import annotations

import argparse
import asyncio
import json
import mimetypes
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from volvox.cli.main import guarded
from volvox.deepaas import COMPATIBLE


def run(arguments: list[str]) -> int:
    """Do what the command line says; the exit code."""
    return guarded(lambda: asyncio.run(_run(_options().parse_args(arguments))), debug=False)


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepaas-predict", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=COMPATIBLE)
    parser.add_argument("-i", "--input-file", required=True, help="file, or with --url the address, to ask about")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder for the answer")
    parser.add_argument("-ct", "--content-type", default="application/json", help="what the answer shall be")
    parser.add_argument("-u", "--url", action="store_true", help="the input is an address")
    parser.add_argument("--nourl", dest="url", action="store_false", help=argparse.SUPPRESS)
    parser.add_argument("--model-name", default="", help="the module (default: DEEPAAS_V2_MODEL)")
    return parser


async def _run(options: argparse.Namespace) -> None:
    from volvox.deepaas import asking

    module = asking.chosen(options.model_name)
    with tempfile.TemporaryDirectory(prefix="volvox-predict-") as folder:
        async with asking.holding(module, warm=True) as worker:
            described = worker.description["predict"]
            values = await _values(options, described, str(module), Path(folder))
            answer = await asking.predicted(worker, asking.request_of(described, values, Path(folder)))
            plain = asking.is_json(answer)
            value = asking.returned(worker.description, json.loads(answer.body)) if plain else None
    kind = answer.header["content_type"].partition(";")[0]
    name = (
        PurePosixPath(unquote(urlsplit(options.input_file).path)).stem if options.url else Path(options.input_file).stem
    )
    target = options.output / f"out_{name}{mimetypes.guess_extension(kind) or ''}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(json.dumps(value).encode() + b"\n" if plain else answer.body)
    print(f"Output saved at {target}")


async def _values(
    options: argparse.Namespace, described: list[dict[str, Any]], module: str, folder: Path
) -> dict[str, Any]:
    from volvox.errors import InvalidInput
    from volvox.serving.smoke import file_argument

    values: dict[str, Any] = {}
    known = {told["name"]: told for told in described}
    if "accept" in known:
        values["accept"] = options.content_type
    elif options.content_type != "application/json":
        raise InvalidInput(f"module {module!r} answers JSON only; leave --content-type {options.content_type} out")
    field = file_argument(described)
    taker = next((name for name in ("urls", "url") if name in known), None)
    if options.url and taker:
        values[taker] = [options.input_file] if known[taker]["type"] == "array" else options.input_file
        return values
    if field is None:
        raise InvalidInput(f"module {module!r} takes no file; `deepaas-cli predict --help` lists what it takes")
    values[field] = (
        str(await asyncio.to_thread(_fetched, options.input_file, folder)) if options.url else options.input_file
    )
    return values


def _fetched(address: str, folder: Path) -> Path:
    import threading

    from volvox.data.download import download
    from volvox.data.http import WebObject

    return download(WebObject(address), folder, threading.Event())

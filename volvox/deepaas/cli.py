"""`deepaas-cli`: a module's functions from the command line, its arguments as options."""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import logging
import mimetypes
import sys
import tempfile
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from volvox.cli.main import guarded
from volvox.deepaas import COMPATIBLE

METHODS = {
    "get_metadata": "what the module says of itself",
    "warm": "make the module ready, e.g. load its weights",
    "predict": "ask the module; predict --help lists its arguments",
    "train": "train the module; train --help lists its arguments",
}

_EPILOG = "Then one of: " + "; ".join(f"{name} ({text})" for name, text in METHODS.items())
_WITHOUT_VALUE = {"-h", "--help", "--version", "-d", "--debug", "--use-json"}

log = logging.getLogger("deepaas-cli")


def run(arguments: list[str]) -> int:
    """Do what the command line says; the exit code."""
    return guarded(lambda: _run(arguments), debug=bool({"--debug", "-d"} & set(arguments)))


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def _run(arguments: list[str]) -> None:
    from volvox.deepaas import asking
    from volvox.serving import configuration, logs

    before, method, rest = _split(arguments)
    options = _options().parse_args(before)
    told = configuration.read(options.config_file or configuration.default_files("deepaas-cli"), options.config_dir)
    settings = logs.LogSettings(
        debug=options.debug, file=options.log_file, folder=options.log_dir, date_format=options.log_date_format,
        as_json=options.use_json,
    )  # fmt: skip
    logs.configure(settings)
    log.setLevel(logging.INFO)
    if not method:
        method = "get_metadata"
        log.warning("no method was named; get_metadata is called")
    log.info("%s was called.", method)
    module = asking.chosen(options.model_name or str(told.get("model_name", "")))
    asyncio.run(_Call(module, method, rest, options.deepaas_method_output).run())


def _split(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    """The command's own options, the method (empty if none is named), and what is the method's."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if word in METHODS:
            return arguments[:place], word, arguments[place + 1 :]
        alone = word in _WITHOUT_VALUE or "=" in word or "multiprocessing" in word
        place += 1 if alone or not word.startswith("-") else 2
    return arguments, "", []


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepaas-cli", description=__doc__, allow_abbrev=False, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=COMPATIBLE)
    parser.add_argument("--model-name", "--model_name", default="", help="the module (default: DEEPAAS_V2_MODEL)")
    parser.add_argument("--deepaas_method_output", metavar="FILE", help="file for the result")
    parser.add_argument(
        "--deepaas_with_multiprocessing", action=argparse.BooleanOptionalAction, default=True,
        help="accepted: a module always runs in a process of its own",
    )  # fmt: skip
    parser.add_argument("--nodeepaas_with_multiprocessing", dest="deepaas_with_multiprocessing",
                        action="store_false", help=argparse.SUPPRESS)  # fmt: skip
    parser.add_argument("--config-file", action="append", type=Path, default=[], help="INI file of options")
    parser.add_argument("--config-dir", action="append", type=Path, default=[], help="folder of such files")
    parser.add_argument("-d", "--debug", action="store_true", help="log everything")
    parser.add_argument("--log-file", type=Path, help="file for the log instead of standard error")
    parser.add_argument("--log-dir", type=Path, help="folder for the log")
    parser.add_argument("--log-date-format", default="%Y-%m-%d %H:%M:%S", help="how strftime writes a line's time")
    parser.add_argument("--use-json", action="store_true", help="log lines are JSON objects")
    return parser


class _Call:
    """One call of one method."""

    def __init__(self, module: Any, method: str, words: list[str], output: str | None) -> None:
        self.module, self.method, self.words, self.output = module, method, words, output

    async def run(self) -> None:
        from volvox.deepaas import asking

        helped = bool({"-h", "--help"} & set(self.words))
        async with asking.holding(self.module, warm=self.method in ("warm", "predict") and not helped) as worker:
            described = worker.description
            if self.method == "warm":
                log.info("return: Finished warm() method")
            elif self.method == "get_metadata":
                self._keep(json.dumps(described["metadata"]))
                log.info("return: %s", json.dumps(described["metadata"]))
            elif self.method == "predict":
                await self._predict(worker, self._values(described["predict"]))
        if self.method == "train":
            await self._train(described["train"], self._values(described["train"]))

    def _values(self, described: list[dict[str, Any]]) -> dict[str, Any]:
        """The values on the command line by wire name; those that are not given are the module's to fill in."""
        parser = argparse.ArgumentParser(prog=f"deepaas-cli {self.method}", allow_abbrev=False)
        for told in described:
            flags = dict.fromkeys(f"--{name}" for name in (told["keyword"], told["name"]))
            parser.add_argument(
                *flags, dest=told["name"], type=_converter(told), required=told["required"],
                default=argparse.SUPPRESS, help=_help(told),
            )  # fmt: skip
        return vars(parser.parse_args(self.words))

    async def _predict(self, worker: Any, values: dict[str, Any]) -> None:
        from volvox.deepaas import asking

        with tempfile.TemporaryDirectory(prefix="volvox-cli-") as folder:
            request = asking.request_of(worker.description["predict"], values, Path(folder))
            answer = await asking.predicted(worker, request)
        plain = asking.is_json(answer)
        if plain:
            result = asking.returned(worker.description, json.loads(answer.body))
            body = json.dumps(result).encode()
        else:
            body = answer.body
        if self.output:
            target = self._named(values.get("accept"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
            log.info("return: Output is saved in %s", target)
        elif plain:
            log.info("return: %s", body.decode())
        else:
            kind = answer.header["content_type"]
            log.info("return: %d bytes of %s; --deepaas_method_output FILE keeps them", len(body), kind)

    def _named(self, accept: str | None) -> Path:
        """The file for the result; one with another extension than the result's type has gets that too."""
        target = Path(self.output or "").absolute()
        extension = mimetypes.guess_extension(accept) if accept and accept != "*/*" else ".json"
        if extension and target.suffix != extension:
            log.warning("the result is %s and %s is named otherwise; it gets %s", extension, target.name, extension)
            target = target.with_name(target.name + extension)
        return target

    async def _train(self, described: list[dict[str, Any]], values: dict[str, Any]) -> None:
        from volvox.deepaas import asking
        from volvox.modules.calling import call_module

        with tempfile.TemporaryDirectory(prefix="volvox-cli-") as folder:
            raw = dict(values)
            for told in described:
                if told["type"] == "file" and told["name"] in raw:
                    raw[told["name"]] = asking.upload(raw[told["name"]], Path(folder))
            printed, began = Path(folder, "log"), datetime.now()
            try:
                output = await call_module(str(self.module), "train", raw, log=printed)
            finally:
                sys.stderr.write(printed.read_text(errors="replace") if printed.exists() else "")
        ended = datetime.now()
        defaults = {told["name"]: told["default"] for told in described if "default" in told}
        told = json.dumps(
            {
                "date": str(began),
                "args": {**defaults, **values},
                "status": "done",
                "uuid": uuid.uuid4().hex,
                "result": {"finish_date": str(ended), "duration": str(ended - began), "output": output},
            }
        )
        self._keep(told)
        log.info("Elapsed time:  %s", ended - began)
        log.info("return: %s", f"Output is saved in {self.output}" if self.output else told)

    def _keep(self, text: str) -> None:
        if self.output:
            target = Path(self.output).absolute()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)


def _converter(told: dict[str, Any]) -> Any:
    return {"boolean": _boolean, "integer": int, "number": float, "array": _literal, "object": _literal}.get(
        told["type"], str
    )


def _boolean(text: str) -> bool:
    return text.lower() in ("yes", "true", "t", "1")


def _literal(text: str) -> Any:
    """A list or mapping as Python or JSON writes it."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return json.loads(text)


def _help(told: dict[str, Any]) -> str:
    parts = [told["help"], f"[{'path of a file' if told['type'] == 'file' else told['type']}]"]
    if told["type"] in ("array", "object"):
        parts.append('in quotes: "[...]"' if told["type"] == "array" else 'in quotes: "{...}"')
    if told.get("choices"):
        parts.append(f"one of {', '.join(map(str, told['choices']))}")
    if "default" in told:
        parts.append(f"default: {told['default']}")
    return " ".join(filter(None, parts)).replace("%", "%%")

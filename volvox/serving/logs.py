"""Where the server's log goes, and what a line of it looks like."""

from __future__ import annotations

import json
import logging
import logging.config
import logging.handlers
from dataclasses import dataclass
from pathlib import Path

from volvox.errors import InvalidInput
from volvox.serving import access

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SYSLOG = "/dev/log"


@dataclass(frozen=True)
class LogSettings:
    """How the server logs, in the words of DEEPaaS's options.

    Attributes:
        debug: Whether everything is logged, not only warnings.
        access: Whether there is a line for every request.
        file: The file that it goes to instead of standard error; it may be moved away while it is written.
        folder: Where a relative `file` lies; alone: the file `volvox.log` in it.
        date_format: How `time.strftime` writes the time.
        as_json: Whether a line is a JSON object.
        syslog: Whether it goes to syslog too, under `facility`.
        config: A file for `logging.config.fileConfig`, which decides everything instead.
    """

    debug: bool = False
    access: bool = False
    file: Path | None = None
    folder: Path | None = None
    date_format: str = "%Y-%m-%d %H:%M:%S"
    as_json: bool = False
    syslog: bool = False
    facility: str = "user"
    config: Path | None = None


def configure(settings: LogSettings) -> None:
    """Make the log of this process what `settings` say.

    Raises:
        InvalidInput: If a file cannot be used, or there is no syslog.
    """
    if settings.config is not None:
        try:
            logging.config.fileConfig(settings.config, disable_existing_loggers=False)
        except Exception as error:  # a log's configuration may name any class
            raise InvalidInput(f"--log-config-append {settings.config} cannot be used: {error}") from error
        return
    form: logging.Formatter = logging.Formatter(_LINE, settings.date_format)
    if settings.as_json:
        form = _Json(datefmt=settings.date_format)
    handlers: list[logging.Handler] = []
    try:
        handlers.append(_main(settings))
        if settings.syslog:
            handlers.append(_syslog(settings.facility))
    except OSError as error:
        raise InvalidInput(f"the log cannot be written to {error.filename or _SYSLOG}: {error.strerror}") from error
    for handler in handlers:
        handler.setFormatter(form)
    logging.basicConfig(level=logging.DEBUG if settings.debug else logging.WARNING, handlers=handlers, force=True)
    if settings.access:
        access.log.setLevel(logging.INFO)


def _main(settings: LogSettings) -> logging.Handler:
    if settings.file is None and settings.folder is None:
        return logging.StreamHandler()
    path = (settings.folder or Path()) / (settings.file or "volvox.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    return logging.handlers.WatchedFileHandler(path)


def _syslog(facility: str) -> logging.Handler:
    names = logging.handlers.SysLogHandler.facility_names
    name = facility.lower().removeprefix("log_")
    if name not in names:
        raise InvalidInput(f"--syslog-log-facility {facility} does not exist; there are {', '.join(sorted(names))}")
    if not Path(_SYSLOG).exists():
        raise InvalidInput(f"--use-syslog: there is no {_SYSLOG} on this machine; log to a file or to standard error")
    return logging.handlers.SysLogHandler(_SYSLOG, facility=names[name])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)

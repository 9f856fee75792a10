"""`volvox serve` and `volvox web`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from volvox import __version__

_PATH = click.Path(path_type=Path)
_EVENTS = ("AWS_LAMBDA_RUNTIME_API", "VOLVOX_EVENT", "VOLVOX_QUEUE")  # where they are, nobody asks over HTTP


def _take_configuration(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    from volvox.serving import configuration

    return configuration.take(ctx, parameter, value)


def _on_or_off(name: str, default: bool, text: str) -> Any:
    return click.option(f"--{name}/--no{name}", default=default, show_default=True, help=text)


_OPTIONS = (
    # what
    click.option("--module", multiple=True, metavar="MODULE", help=(
        "What to serve: an installed module's name, PACKAGE.MODULE:OBJECT, or a folder with a module's source. Several "
        "times for several modules (default: the only one that is installed).")),
    click.option("--model-name", default=lambda: os.environ.get("DEEPAAS_V2_MODEL", ""),
                 help="The same for an installed module (default: DEEPAAS_V2_MODEL)."),
    click.option("--name", multiple=True, help="Its name in URLs (default: the module's); one for each module."),
    click.option("--python", default="", metavar="PYTHON", help=(
        "The interpreter that the modules need, in an environment with pins of its own; Volvox need not be there.")),
    click.option("--weights", type=click.Path(exists=True, file_okay=False, path_type=Path),
                 default=lambda: os.environ.get("VOLVOX_WEIGHTS"),
                 help="Folder of the version's weights (default: VOLVOX_WEIGHTS)."),
    click.option("--keep", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
                 help="Folder for its jobs, which outlive the server there (default: they end with it)."),
    # where
    click.option("--listen-ip", default="127.0.0.1", show_default=True, help="Address to listen at."),
    click.option("--listen-port", default=5000, show_default=True, type=click.IntRange(0, 65535),
                 help="0: any free port."),
    click.option("--base-path", default="", metavar="/PATH", help="What stands before every path of the server."),
    # how much
    click.option("-p", "--workers", default=1, show_default=True, type=click.IntRange(1),
                 help="Processes that hold each model."),
    click.option("--client-max-size", default=256 << 20, show_default=True, type=click.IntRange(0),
                 help="Largest request in bytes; 0: any."),
    click.option("--deadline", default=60.0, show_default=True, type=click.FloatRange(0.1),
                 help="Seconds an answer takes."),
    click.option("--queue", default=64, show_default=True, type=click.IntRange(1), help="Requests that may wait."),
    click.option("--batch", default=32, show_default=True, type=click.IntRange(1),
                 help="Requests that a module with predict_batch answers at once."),
    click.option("--batch-delay", default=0.0, show_default=True, type=click.FloatRange(0),
                 help="Seconds to wait for more of them, where others usually come."),
    # which endpoints
    _on_or_off("warm", True, "Warm the modules before they are asked."),
    _on_or_off("predict-endpoint", True, "Answer predictions; else 402."),
    _on_or_off("train-endpoint", True, "Answer trainings; else 402."),
    _on_or_off("doc-endpoint", True, "Show pages that document the API."),
    _on_or_off("debug-endpoint", False, "Show at /v2/debug/ what the modules print, to everybody."),
    # whom it answers
    click.option("--tokens", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="File of bearer tokens, one of which a client must send (`volvox tokens add` makes it)."),
    click.option("--oidc-issuer", default="", metavar="URL",
                 help="OpenID Connect provider whose access tokens are accepted."),
    click.option("--oidc-audience", default="", help="Whom its tokens have to be meant for; needed with an issuer."),
    click.option("--oidc-scope", default="", help="A scope that they must have."),
    click.option("--oidc-group", default="", help="A group that their holders must be in."),
    _on_or_off("open-metrics", False, "Answer /metrics to everybody."),
    # files of options, and the log
    click.option("--config-file", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 is_eager=True, callback=_take_configuration,
                 help="INI file of options, section [DEFAULT]; the command line goes before it."),
    click.option("--config-dir", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
                 is_eager=True, callback=_take_configuration, help="Folder of such files, *.conf."),
    click.option("-d", "--debug", is_flag=True, help="Log everything, and show the whole trace of an error."),
    _on_or_off("access-log", False, "Log a line for every request."),
    click.option("--log-file", type=_PATH, help="File for the log instead of standard error."),
    click.option("--log-dir", type=_PATH, help="Folder for the log."),
    click.option("--log-date-format", default="%Y-%m-%d %H:%M:%S", help="How strftime writes a line's time."),
    click.option("--log-config-append", "--log-config", type=_PATH,
                 help="File for logging.config.fileConfig; other options of the log then say nothing."),
    _on_or_off("use-json", False, "Log lines are JSON objects."),
    _on_or_off("use-syslog", False, "Log to syslog too."),
    click.option("--syslog-log-facility", default="LOG_USER", show_default=True, help="Its facility."),
    _on_or_off("use-journal", False, "Accepted: standard error of a service goes to systemd's journal."),
    _on_or_off("watch-log-file", True, "Accepted: a log file may be moved away in any case."),
)  # fmt: skip


def serve_options(command: Any) -> Any:
    """All options of `volvox serve`: every one of `deepaas-run` 2.6, and ours."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(context_settings={"max_content_width": 110})
@serve_options
@click.version_option(__version__, prog_name="volvox serve", message="%(prog)s %(version)s")
def serve(**options: Any) -> None:
    """Serve model modules behind REST, in the foreground.

    \b
    Examples:
      volvox serve --module image_classifier --weights ./weights
      volvox serve --module ./my-module --python ./my-module/.venv/bin/python
      volvox serve --module my_package.api:model --workers 2
    """  # noqa: D301 - click wants the backspace itself
    if any(os.environ.get(name) for name in _EVENTS):
        _answer_events(options)
    from volvox.errors import ModuleFailed
    from volvox.serving import logs, running

    settings = _settings(options)
    logs.configure(settings.logs)
    try:
        running.serve_modules(_asked(options), settings)
    except ModuleFailed as error:
        if error.trace:  # why it does not start is what one came for
            click.echo(error.trace.rstrip(), err=True)
        raise ModuleFailed(str(error)) from error


def _answer_events(options: dict[str, Any]) -> None:
    """Answer events, as in AWS Lambda; does not return."""
    import sys
    import tempfile

    from volvox.errors import InvalidInput
    from volvox.modules import specification
    from volvox.modules.interpreter import inspect
    from volvox.serving import events

    modules = options["module"] or (options["model_name"],)
    if len(modules) != 1 or options["python"]:
        raise InvalidInput("events are answered by one module, in this interpreter; name one --module and no --python")
    here = inspect("")
    information = Path(tempfile.mkdtemp(prefix="volvox-module-"))
    place = specification.resolve(modules[0], here, information) if modules[0] else specification.only(here)
    weights = options["weights"]
    sys.exit(events.serve(str(place), str(weights) if weights else None, options["batch"]))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--descriptor", default=-1, hidden=True, help="File descriptor of a socket that listens already.")
def web(host: str, port: int, descriptor: int) -> None:
    """Serve models, pages and catalogue of VOLVOX_HOME, in the foreground."""
    from volvox.serving.running import serve_home
    from volvox.settings import Home

    serve_home(Home.current().ensure().root, host, port, descriptor)


def _asked(options: dict[str, Any]) -> list[Any]:
    """The modules with the names they are to have."""
    from volvox.errors import InvalidInput
    from volvox.serving.running import Asked

    modules, names = options["module"] or (options["model_name"],), options["name"]
    if names and len(names) != len(modules):
        raise InvalidInput(
            f"there are {len(modules)} modules and {len(names)} names; give one --name for each --module, in order"
        )
    return [Asked(module, name) for module, name in zip(modules, names or [""] * len(modules), strict=True)]


def _settings(options: dict[str, Any]) -> Any:
    from volvox.serving.guard import GuardSettings
    from volvox.serving.limits import Limits
    from volvox.serving.logs import LogSettings
    from volvox.serving.offered import Offered, checked_base_path
    from volvox.serving.running import ServeSettings

    return ServeSettings(
        host=options["listen_ip"],
        port=options["listen_port"],
        weights=options["weights"],
        python=options["python"],
        keep=options["keep"],
        limits=Limits(
            upload_bytes=options["client_max_size"],
            queue=options["queue"],
            deadline_seconds=options["deadline"],
            workers=options["workers"],
            batch=options["batch"],
            batch_delay_seconds=options["batch_delay"],
            warm=options["warm"],
        ),
        offered=Offered(
            predict=options["predict_endpoint"],
            train=options["train_endpoint"],
            docs=options["doc_endpoint"],
            debug=options["debug_endpoint"],
            base_path=checked_base_path(options["base_path"]),
        ),
        guard=GuardSettings(
            tokens=options["tokens"],
            oidc_issuer=options["oidc_issuer"],
            oidc_audience=options["oidc_audience"],
            oidc_scope=options["oidc_scope"],
            oidc_group=options["oidc_group"],
            open_metrics=options["open_metrics"],
        ),
        logs=LogSettings(
            debug=options["debug"],
            access=options["access_log"],
            file=options["log_file"],
            folder=options["log_dir"],
            date_format=options["log_date_format"],
            as_json=options["use_json"],
            syslog=options["use_syslog"],
            facility=options["syslog_log_facility"],
            config=options["log_config_append"],
        ),
    )

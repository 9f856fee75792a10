"""Commands of the cycle: typed and thin; what is heavy is imported when it is needed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volvox.cli.module_options import ModuleCommand
from volvox.errors import GateRefused, InvalidInput
from volvox.settings import Home

if TYPE_CHECKING:
    from volvox.packaging.training_images import TrainingImage


def _data_options(command: Any) -> Any:
    """The options that say how a folder is read and split; the same words wherever data is read."""
    for option in reversed(
        [
            click.option("--sha256", default="", help="Digest that the archive must have."),
            click.option("--label-column", default="", help="Column of labels.csv that holds the class."),
            click.option("--time-column", default="", help="Column that holds the capture time."),
            click.option("--group-column", default="", help="Column that says which images belong together."),
            click.option(
                "--time-gap", "time_gap_seconds", default=60.0, show_default=True,
                help="Images captured within this many seconds of each other stay in one part.",
            ),
            click.option(
                "--split", "fractions", default=(0.7, 0.15, 0.15), type=(float, float, float), show_default=True,
                help="Parts for training, validation and test.",
            ),
            click.option("--split-seed", default=0, show_default=True, help="Another seed, another split."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=ModuleCommand, context_settings={"max_content_width": 110})
@click.argument("folder", required=False)
@click.option("--demo", is_flag=True, help="Use the scanned handwritten digits that come with scikit-learn.")
@click.option("--name", default="", help="Name of the model; default: the folder's.")
@click.option("--module", default="image_classifier", show_default=True, help="Model module that learns.")
@click.option("--from", "start_from", default="", help="Start from a published model: NAME or NAME/VERSION.")
@click.option("--attempts", default=1, show_default=True, type=click.IntRange(1, 100),
              help="How often to try if the gate refuses.")  # fmt: skip
@click.option("--try", "tries", type=click.Path(path_type=Path),
              help="YAML or JSON file: what to change for the next attempts, a list of arguments.")  # fmt: skip
@click.option("--no-image", is_flag=True, help="Do not build a serving image; the build context is kept.")
@click.option("--on", "places", multiple=True, metavar="[STAGE=]POOL",
              help="Work pool of a stage, `here` or `auto`; a pool alone is for training and evaluation.")  # fmt: skip
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1),
              help="How many processes train together, if the module can; the result is the same.")  # fmt: skip
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(min=1),
              help="How many machines train together, each with --processes, on a Kubernetes pool.")  # fmt: skip
@click.option("--priority", default="default", show_default=True, type=click.Choice(["high", "default", "low"]),
              help="Before or after other runs that wait for a pool.")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Say what would be done, where, how long it takes and what it costs; start nothing.")  # fmt: skip
@click.option("--calibrate", is_flag=True,
              help="With --dry-run: first time the module by short trainings, here and on each pool.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the record of the cycle as JSON.")
@_data_options
def cycle(  # noqa: PLR0917 - click passes all of them by name
    folder: str | None,
    demo: bool,
    name: str,
    module: str,
    start_from: str,
    attempts: int,
    tries: Path | None,
    no_image: bool,
    places: tuple[str, ...],
    processes: int,
    nodes: int,
    priority: str,
    dry_run: bool,
    calibrate: bool,
    as_json: bool,
    arguments: dict[str, Any],
    **data_options: Any,
) -> None:
    """Take a folder of labelled images to a served, catalogued model.

    FOLDER holds one folder of images a class (FOLDER/cat/1.jpg), or the lists that DEEP's image classifier reads
    (FOLDER/data/dataset_files/{classes,train,val,test}.txt), or it is an archive: a path, file://, https:// or s3://.

    What is missing of the stack is started and left running: `volvox status` shows it, `volvox down` ends it.

    \b
    Examples:
      volvox cycle --demo
      volvox cycle ~/plankton --name lake --epochs 40
      volvox cycle ~/plankton --from digits --attempts 3 --try more.yaml
      volvox cycle ~/plankton --on kubernetes --on evaluation=here
    """  # noqa: D301 - click wants the backspace itself
    from flows.local import run_cycle, since_process_start
    from flows.placing import parse_places
    from volvox.cli.report import as_json as report_json
    from volvox.cli.report import end_screen
    from volvox.cli.terminal import cycle_view
    from volvox.naming import checked_name, model_name

    if calibrate and not dry_run:
        raise InvalidInput("--calibrate times the module for the forecast of --dry-run; give --dry-run too")
    home = Home.current().ensure()
    source = _source(folder, demo, home)
    further = _further_arguments(tries, attempts, arguments)
    parameters = {
        "name": checked_name(name or ("digits" if demo else model_name(source))),
        "module": module,
        "arguments": arguments,
        "further_arguments": further,
        "start_from": start_from,
        "data_options": _given(data_options),
        "image": not no_image,
        "places": parse_places(places),
        "processes": processes,
        "nodes": nodes,
        "priority": priority,
    }
    _check_places(parameters["places"], module, home, nodes)
    _check_processes(module, processes * nodes, home)
    _check_arguments(module, [arguments, *({**arguments, **change} for change in further)])
    if dry_run:
        if calibrate:  # before anything imports Prefect, which reads then where its server is
            _calibrate(source, home, parameters, quiet=as_json)
        from flows import dry_run as rehearsal

        del parameters["further_arguments"]  # whether there is a second try, the gate decides
        del parameters["priority"]
        made = asyncio.run(rehearsal.plan(source, home, **parameters))
        click.echo(json.dumps(rehearsal.as_values(made), indent=2) if as_json else rehearsal.as_text(made))
        return
    try:
        with cycle_view(quiet=as_json):
            made = run_cycle(source, home, **parameters)
    except GateRefused as refusal:
        if refusal.cycle is not None:
            _show(refusal.cycle, as_json, report_json, end_screen, since_process_start())
        raise
    _show(made, as_json, report_json, end_screen, since_process_start())


@click.command()
@click.argument("folder", required=False)
@click.option("--demo", is_flag=True, help="Use the scanned handwritten digits that come with scikit-learn.")
@click.option("--json", "as_json", is_flag=True, help="Print the dataset's record as JSON.")
@_data_options
def data(folder: str | None, demo: bool, as_json: bool, **data_options: Any) -> None:
    """Check and split a dataset, and say what was left out.

    Nothing is trained; the same options of `volvox cycle` find the dataset made.
    """
    from flows.listing import dataset_table
    from flows.local import prepare_dataset
    from volvox.cli.terminal import cycle_view

    home = Home.current().ensure()
    source = _source(folder, demo, home)
    with cycle_view(quiet=as_json, stages=("data",)):
        made = asyncio.run(prepare_dataset(source, _given(data_options)))
    click.echo(made.model_dump_json(indent=2) if as_json else dataset_table(made))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON.")
def models(as_json: bool) -> None:
    """List registered models and their versions, the champion of each marked."""
    from flows.listing import versions, versions_table

    found = versions()
    click.echo(json.dumps(found, indent=2) if as_json else versions_table(found))


@click.command()
@click.argument("file", required=False)
@click.option(
    "--input-file",
    "inputs",
    multiple=True,
    metavar="FILE",
    help=(
        "Ask the server over HTTP about this file; several times for several files. The answer may be an image or an "
        "archive too, and is not kept."
    ),
)
@click.option("--name", "--model-name", default="", help="Model to ask; default: the only one that is served.")
@click.option(
    "--output",
    "--output-file",
    type=click.Path(path_type=Path),
    help="File for the answer instead of the terminal; for several files a folder.",
)
@click.option("--content-type", default="", help="What the answer shall be, e.g. image/png, where the model can.")
@click.option("--url", default="", help="Address of the server to ask over HTTP (default: the stack's).")
@click.option("--json", "compact", is_flag=True, help="One line of JSON for each answer.")
def predict(
    *,
    file: str | None,
    inputs: tuple[str, ...],
    name: str,
    output: Path | None,
    content_type: str,
    url: str,
    compact: bool,
) -> None:
    """Ask a served model about a file and print its answer (JSON).

    FILE is a path, file://, or https://. With --input-file, --url or --content-type any model server is asked, one of
    DEEPaaS too.

    \b
    Examples:
      volvox predict flower.png
      volvox predict --input-file a.png --input-file b.png --output-file answers/
      volvox predict --input-file a.png --content-type image/png --output-file boxes.png --url http://127.0.0.1:5000
    """  # noqa: D301 - click wants the backspace itself
    asked = [*([file] if file else []), *inputs]
    if not asked:
        raise InvalidInput("give a FILE to ask about, or --input-file FILE")
    if inputs or url or content_type:
        from volvox.cli import predicting

        predicting.predict(asked, url=url, model=name, content_type=content_type, output=output, compact=compact)
        return
    from flows.local import ask

    indent = None if compact else 2
    told = json.dumps(asyncio.run(ask(asked[0], name, Home.current())), indent=indent, ensure_ascii=False)
    if output is None:
        click.echo(told)
    else:
        output.write_text(told + "\n")


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--training", is_flag=True, help="Build the image that stages run in on a Docker, Kubernetes or ECS pool."
)
@click.option("--module", default="image_classifier", show_default=True, help="Model module in the training image.")
@click.option("--gpu", is_flag=True, help="The training image for NVIDIA GPUs.")
@click.option("--push", is_flag=True, help="Send the training image to the registry that VOLVOX_REGISTRY names.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of the training image as JSON.")
def images(*, names: tuple[str, ...], training: bool, module: str, gpu: bool, push: bool, as_json: bool) -> None:
    """Build the serving images that champions lack, or (--training) the image that stages run in.

    NAMES are models; without any, all of them.

    \b
    Examples:
      volvox images
      volvox images --training
      VOLVOX_REGISTRY=registry.example.org/team volvox images --training --gpu --push
    """  # noqa: D301 - click wants the backspace itself
    from flows.local import build_image, build_training_image
    from volvox.cli.terminal import cycle_view

    Home.current().ensure()
    if training:
        if names:
            raise InvalidInput(f"--training builds the image of a module, not of {names[0]!r}; name it with --module")
        with cycle_view(quiet=as_json, stages=("training-image",)):
            built = asyncio.run(build_training_image(module, gpu=gpu, push=push))
        click.echo(built.model_dump_json(indent=2) if as_json else _layers(built))
        return
    if gpu or push or as_json:
        raise InvalidInput("--gpu, --push and --json are about the training image; give --training too")
    from flows.listing import cycles

    for made in cycles(names):
        with cycle_view(stages=("packaging", "publication")):
            image = asyncio.run(build_image(made))
        size = f"{image.bytes / 1e6:.0f} MB" if image.built else f"not built: {image.reason}"
        click.echo(f"{image.name}  {size}")


def _layers(image: TrainingImage) -> str:
    """An image's name and size, and those of its layers, the base first."""
    lines = [f"{image.name}  {image.bytes / 1e6:.0f} MB"]
    lines += [f"  {size / 1e6:8.1f} MB  {made_by[:90]}" for made_by, size in reversed(image.layers)]
    return "\n".join([*lines, *([f"pushed as {image.pushed}"] if image.pushed else [])])


def _source(folder: str | None, demo: bool, home: Home) -> str:
    if demo == bool(folder):
        raise InvalidInput("give a folder of labelled images (FOLDER/<class>/*.png), or --demo for scanned digits")
    if demo:
        from volvox.data.demo import write_digits

        return str(write_digits(home.folder("demo") / "digits"))
    from volvox.data.sources import find_source

    find_source(str(folder), home)  # what is not there is told before anything is started
    return str(folder)


def _given(data_options: dict[str, Any]) -> dict[str, Any]:
    from volvox.data.options import Options, checked_sha256

    seed = data_options.pop("split_seed")
    given = {**{name: value for name, value in data_options.items() if value not in ("", None)}, "seed": seed}
    sha256 = checked_sha256(given.pop("sha256", ""))
    Options(**given)  # what cannot be used is told before anything is started
    return {**given, **({"sha256": sha256} if sha256 else {})}


def _further_arguments(tries: Path | None, attempts: int, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """What the second and later attempts change: from the file, else another seed each."""
    if tries is None:
        first = int(arguments.get("seed") or 0)
        return [{"seed": first + number} for number in range(1, attempts)]
    import yaml

    try:
        changes = yaml.safe_load(tries.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"--try {tries} cannot be read as YAML or JSON: {error}".splitlines()[0]) from error
    changes = changes if isinstance(changes, list) else [changes]
    if not all(isinstance(change, dict) for change in changes):
        raise InvalidInput(f"--try {tries} must hold a list of arguments, like [{{seed: 1}}, {{epochs: 40}}]")
    return changes[: max(attempts - 1, 0)] if attempts > 1 else changes


def _calibrate(source: str, home: Home, parameters: dict[str, Any], quiet: bool) -> None:
    """Say what will be done, time the module, say what was measured; on standard error, beside what is asked for."""
    from flows.local import run_calibration
    from volvox.cli.terminal import cycle_view
    from volvox.modules import discovery
    from volvox.pools import calibrating
    from volvox.pools.machine import pools_within_reach
    from volvox.pools.needs import needs_of

    module, stated = parameters["module"], parameters["places"].get("training", "")
    pools = pools_within_reach(home, stated)
    click.echo(calibrating.announced(module, needs_of(discovery.find(module), "training"), pools, stated), err=True)
    with cycle_view(quiet=quiet, stages=("data", "training")):
        said = run_calibration(source, home, **parameters)
    for place, measured in said.items():
        click.echo(f"{place}: {measured}", err=True)


def _check_processes(module: str, processes: int, home: Home) -> None:
    from volvox.modules import calling, discovery
    from volvox.modules.several import check_processes

    if processes > 1:
        check_processes(module, processes, asyncio.run(calling.describe(discovery.find(module), home)))


def _check_places(stated: dict[str, str], module: str, home: Home, nodes: int) -> None:
    """What no pool could ever take is told before anything is started."""
    from flows.placing import Places

    store = None
    if stated and not home.store.startswith("block:"):  # else only the server knows it, which may not run yet
        from volvox.store import Store  # not the block of it: that imports Prefect, whose settings are not set yet

        store = Store.open(home.store, home.cache)
    places = Places(stated, home, store)
    places.check_nodes(nodes)
    if store is not None:
        asyncio.run(places.refuse_early(module))


def _check_arguments(module: str, chosen: list[dict[str, Any]]) -> None:
    """Ask the module itself before anything is started, so that a wrong value costs half a second."""
    from volvox.identity import digest_of
    from volvox.modules import calling, discovery

    code = discovery.find(module).code
    for arguments in chosen:
        accepted = Home.current().folder("cache", "accepted-arguments") / digest_of([module, code, arguments])
        if arguments and not accepted.exists():
            asyncio.run(calling.call_module(module, "validate:train", arguments))
            accepted.touch()


def _show(made: Any, as_json: bool, report_json: Any, end_screen: Any, seconds: float) -> None:
    if as_json:
        click.echo(json.dumps(report_json(made, seconds), indent=2))
    else:
        end_screen(made, seconds)

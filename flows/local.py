"""Run the cycle from this machine's command line: start what is missing of the stack, watch, say where things are."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volvox import disks, progress
from volvox.errors import GateRefused, InvalidInput, NotFound, VolvoxError
from volvox.settings import Home
from volvox.stack import stack
from volvox.stack.state import addresses

if TYPE_CHECKING:
    from volvox.packaging.training_images import TrainingImage
    from volvox.records import Cycle, Dataset, Image


def run_cycle(source: str, home: Home, **parameters: Any) -> Cycle:
    """Start what is missing of the stack, run the cycle as a Prefect flow in this process, return its record.

    Args:
        source: Folder or archive of labelled images.
        home: Whose stack and store.
        parameters: The other parameters of `flows.cycle.cycle`.

    Raises:
        VolvoxError: As the stages do; a refused gate carries what was made until then.
    """
    stack.ensure(home)
    os.environ.update(stack.environment(home))  # before Prefect is imported: it reads its settings then
    try:
        return asyncio.run(_run(source, home, parameters))
    except VolvoxError:
        raise
    except Exception as error:
        if disks.is_full(home.root):  # what Prefect's server answers then says nothing of it
            raise disks.full(home.root) from error
        raise


async def _run(source: str, home: Home, parameters: dict[str, Any]) -> Cycle:
    prefect_answers = asyncio.create_task(stack.wait_ready_async(home, "prefect"))
    from flows.cycle import cycle  # seconds of imports, while the server starts
    from flows.lost_server import unless_prefect_ends

    await prefect_answers
    try:
        running: Any = cycle(source, **parameters)  # a coroutine, which Prefect's types do not tell
        made = await unless_prefect_ends(running, home)
    except GateRefused as refusal:
        if refusal.cycle is not None:
            refusal.cycle = _linked(refusal.cycle, home)
        raise
    return _linked(made, home)


def run_calibration(source: str, home: Home, **parameters: Any) -> dict[str, str]:
    """Start what is missing of the stack, prepare the data, and time the module at each place that it may go to.

    Args:
        source: Folder or archive of labelled images.
        home: Whose stack and store.
        parameters: Parameters of `flows.cycle.cycle`.

    Returns:
        Place -> what was measured there, or why nothing was.
    """
    stack.ensure(home)
    os.environ.update(stack.environment(home))  # before Prefect is imported: it reads its settings then
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")  # tasks without a flow run around them
    return asyncio.run(_calibrated(source, home, parameters))


async def _calibrated(source: str, home: Home, parameters: dict[str, Any]) -> dict[str, str]:
    prefect_answers = asyncio.create_task(stack.wait_ready_async(home, "prefect"))
    dataset = await prepare_dataset(source, dict(parameters["data_options"]))
    await prefect_answers
    from blocks.store import ObjectStore
    from flows.calibration import Asked, calibrate
    from volvox.published import published_version

    store, start = ObjectStore.local(), parameters["start_from"]
    asked = Asked(
        dataset, parameters["module"], parameters["arguments"], processes=parameters["processes"],
        nodes=parameters["nodes"],
        start_from=published_version(store.open(), start) if start else None,
        place=parameters["places"].get("training", ""),
    )  # fmt: skip
    return await calibrate(asked, home, store)


def _linked(made: Cycle, home: Home) -> Cycle:
    return made.model_copy(update={"links": links(made, home)})


def links(made: Cycle, home: Home) -> dict[str, str]:
    """What -> URL of everything worth opening after a cycle.

    A service that does not answer yet is reached through the web server, whose page waits for it.
    """
    here = addresses(home)
    web = made.service.url if made.service else here.get("web", "")
    found: dict[str, str] = {}
    if example := _example(made, home):
        found["example"] = example
    if made.entry:
        found["catalogue"] = f"{web}{made.entry.path}"
    if made.flow_run:
        found["prefect"] = f"{_reachable('prefect', home, web)}/runs/flow-run/{made.flow_run}"
    mlflow = _reachable("mlflow", home, web)
    if made.version:
        found["mlflow"] = f"{mlflow}/#/models/{made.name}/versions/{made.version.version}"
    else:
        found["mlflow"] = f"{mlflow}/#/experiments"
    return found


def _example(made: Cycle, home: Home) -> str:
    """A copy of a held-out image under a short name, to ask the served model about, as a `file://` URL."""
    from blocks.store import ObjectStore
    from volvox.evaluation.predictions import held_out

    if made.service is None:
        return ""
    folder = ObjectStore.local().open().tree(made.dataset.held_out_tree)
    image = folder / "images" / min(held_out(folder))
    example = home.folder("examples") / f"{made.name}{image.suffix.lower()}"
    temporary = example.with_name(f".{example.name}-{os.getpid()}")
    shutil.copyfile(image, temporary)
    temporary.replace(example)
    return example.as_uri()


def _reachable(service: str, home: Home, web: str) -> str:
    """The address of a service, or the page of the web server that waits for it."""
    if web and not stack.reachable(home, service):
        return f"{web}/open/{service}"
    return addresses(home).get(service, "")


def since_process_start() -> float:
    """Seconds since this process began, the start of the interpreter included."""
    ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return up - ticks / os.sysconf("SC_CLK_TCK")


async def prepare_dataset(source: str, options: dict[str, Any]) -> Dataset:
    """The data stage alone, without Prefect's server: what `volvox data` shows.

    Args:
        source: Folder or archive of labelled images.
        options: The other parameters of `flows.data.data`.
    """
    from blocks.store import ObjectStore
    from tasks.data import prepare_data
    from volvox.data.options import Options

    sha256 = options.pop("sha256", "")
    with progress.stage("data"):
        return await prepare_data.fn(
            source, store=ObjectStore.local().open(), sha256=sha256, options=Options(**options)
        )


async def ask(source: str, name: str, home: Home) -> Any:
    """The answer of the model served as `name` (or of the only one) about a file.

    Raises:
        NotFound: If no such model is served, or there is no such file.
        InvalidInput: If several models are served and none is named, or the model refuses the file.
    """
    from blocks.server import ModelServer
    from blocks.store import ObjectStore
    from tasks.inference import answer_object
    from volvox.records import Service

    server = ModelServer.local(home)
    served = await server.served()
    if not name and len(served) > 1:
        raise InvalidInput(f"several models are served; say which with --name: {', '.join(sorted(served))}")
    name = name or next(iter(served), "")
    if name not in served:
        raise NotFound(
            f"no model {name!r} is served; served: {', '.join(sorted(served)) or 'none, run `volvox cycle`'}"
        )
    told = served[name]
    service = Service(
        name=name, version=told["version"], model_version=told["model_version"], url=server.url,
        predict_url=f"{server.url}/v2/models/{name}/predict/", try_url=f"{server.url}/models/{name}/",
        module_description=told["description"],
    )  # fmt: skip
    store = ObjectStore.local().open()
    job = await answer_object.fn(service, source, None, store=store, server=server, home=home)
    return json.loads(store.path(job.answer_object).read_bytes())


async def build_image(made: Cycle) -> Image:
    """Build the serving image of a finished cycle's version, where it has none, and show it in the catalogue."""
    from blocks.engine import ContainerEngine
    from blocks.store import ObjectStore
    from tasks.packaging import package_model
    from tasks.publication import publish_model

    if made.version is None:
        raise InvalidInput(f"{made.name}: the gate refused the last model, so there is no version to package")
    store = ObjectStore.local().open()
    with progress.stage("packaging"):
        image = await package_model.fn(
            made.version, made.evaluation, made.dataset, store=store, engine=ContainerEngine.local()
        )
    with progress.stage("publication"):
        await publish_model.fn(
            made.version, made.model, made.evaluation, made.dataset, image, store=store, home=Home.current()
        )
    return image


async def build_training_image(module: str, *, gpu: bool, push: bool) -> TrainingImage:
    """Build the training image of a module without Prefect's server: what `volvox images --training` shows.

    Args:
        module: Entry-point name of the module.
        gpu: Whether its torch is the build for NVIDIA GPUs.
        push: Whether to send it to the registry that VOLVOX_REGISTRY names.
    """
    from blocks.engine import ContainerEngine
    from blocks.store import ObjectStore
    from tasks import images

    engine = ContainerEngine.local().model_copy(update={"gpu": gpu})
    with progress.stage("training-image"):
        return await images.build_training_image.fn(
            module, store=ObjectStore.local().open(), home=Home.current(), engine=engine, push=push
        )

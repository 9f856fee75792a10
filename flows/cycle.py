"""The whole cycle: labelled data in; a trained, evaluated, registered, packaged, catalogued, served model out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from prefect import flow
from prefect.runtime import flow_run

from blocks.engine import ContainerEngine
from blocks.server import ModelServer
from blocks.store import ObjectStore
from blocks.tracking import Tracking
from flows.data import data
from flows.evaluation import evaluation
from flows.inference import inference
from flows.packaging import packaging
from flows.parameters import DataOptions, ModelName, Nodes, Processes, Source, StagePlaces
from flows.placing import Places
from flows.publication import publication
from flows.registration import registration
from flows.serving import serving
from flows.stage import leaving_its_record
from flows.stages import Stages
from flows.summary import show
from flows.training import training
from volvox.errors import GateRefused
from volvox.naming import checked_name, model_name
from volvox.pools.definition import Priority
from volvox.published import published_version
from volvox.records import Attempt, Cycle, Verdict


@flow(name="cycle", flow_run_name="cycle-{name}", persist_result=False)
@leaving_its_record
async def cycle(
    source: Source,
    *,
    name: ModelName = "",
    module: str = "image_classifier",
    arguments: dict[str, Any] | None = None,
    further_arguments: list[dict[str, Any]] | None = None,
    start_from: str = "",
    data_options: DataOptions | None = None,
    image: bool = True,
    places: StagePlaces | None = None,
    processes: Processes = 1,
    nodes: Nodes = 1,
    priority: Priority = "default",
    store: ObjectStore | None = None,
    tracking: Tracking | None = None,
    engine: ContainerEngine | None = None,
    server: ModelServer | None = None,
) -> Cycle:
    """Take labelled images to a served, catalogued model.

    Args:
        source: Folder or archive of labelled images: a path, `file://`, `https://` or `s3://`, the latter also with
            `?versionId=`. Data that has not changed is not fetched again, and nothing is trained again.
        name: The model's name: lower case letters, digits, `-`, `_`, `.`; default: the folder's.
        module: Entry-point name of the model module that learns.
        arguments: Values for the module's own `get_train_args()`, e.g. `{"epochs": 20}`; what is left out has the
            module's default.
        further_arguments: If the gate refuses: what to change for the next tries, one object a try, e.g.
            `[{"seed": 1}]`.
        start_from: str model whose weights to start from: `NAME` (its champion) or `NAME/VERSION`.
        data_options: How the data is read and split, e.g. `{"label_column": "species"}`.
        image: Whether to build a serving image where there is an engine.
        places: Stage -> work pool it runs on, `here` (this run's own process) or `auto` (by what it needs, which is
            the default of training): `{"training": "kubernetes"}`.
        processes: How many processes train together, on whatever pool, where the module says `distributed = True`. Each
            takes its share of every batch; the result is the same.
        nodes: How many machines train together, each with so many processes; for a pool of type kubernetes.
        priority: Whether its stages go before or after other runs that wait for a work pool.
        store: Where datasets, weights and records are kept; default: this installation's.
        tracking: The MLflow server; default: this installation's.
        engine: The container engine; default: this machine's.
        server: The server of models and catalogue pages; default: this installation's.

    Raises:
        InvalidInput: If the data or the arguments cannot be used, or no pool fits what a stage needs.
        GateRefused: If no try was good enough; `cycle` on the error holds what was made until then.
    """
    store = store or ObjectStore.local()
    tracking = tracking or Tracking.local()
    name = checked_name(name or model_name(source))
    start = published_version(store.open(), start_from) if start_from else None
    tries = [arguments or {}, *({**(arguments or {}), **change} for change in further_arguments or [])]

    opened = store.open()
    with Stages(Places(cast(dict[str, str], places or {}), store=opened), opened, priority) as stages:
        dataset = await stages.run(data, source, name=name, store=store, **(data_options or {}))

        async def attempt(chosen: dict[str, Any]) -> Cycle:
            model = await stages.run(
                training, dataset, module=module, arguments=chosen, name=name, start_from=start,
                store=store, tracking=tracking, processes=processes, nodes=nodes,
            )  # fmt: skip
            scores = await stages.run(evaluation, model, dataset, store=store, tracking=tracking)
            made = Cycle(name=name, dataset=dataset, model=model, evaluation=scores, attempts=())
            try:
                version = await stages.run(registration, name, model, scores, dataset, store=store, tracking=tracking)
            except GateRefused as refusal:
                refusal.cycle = _attempted(made, chosen, refusal.verdict)
                raise
            return _attempted(made.model_copy(update={"version": version}), chosen, version.verdict)

        made = await _first_accepted(attempt, tries, stages)
        model, scores, version = made.model, made.evaluation, made.version
        assert version is not None
        packed = await stages.run(packaging, version, scores, dataset, build=image, store=store, engine=engine)
        entry = await stages.run(publication, version, model, scores, dataset, packed, store=store)
        service = await stages.run(serving, version, dataset, store=store, server=server)
        job = await stages.run(inference, service, dataset=dataset, store=store, server=server)
        done = _told(made, stages, image=packed, entry=entry, service=service, job=job)
    store.open().put_record("cycle", name, done.model_dump(mode="json"))
    await show(done)
    return done


async def _first_accepted(
    attempt: Callable[[dict[str, Any]], Awaitable[Cycle]], tries: list[dict[str, Any]], stages: Stages
) -> Cycle:
    """Try one set of arguments after the other until the gate accepts; the result lists every attempt.

    Raises:
        GateRefused: The last refusal, with everything that was tried.
    """
    attempts: list[Attempt] = []
    while True:
        try:
            made = await attempt(tries[len(attempts)])
        except GateRefused as refusal:
            attempts += refusal.cycle.attempts
            if len(attempts) == len(tries):
                refusal.cycle = _told(refusal.cycle, stages, attempts=tuple(attempts))
                await show(refusal.cycle)
                raise
        else:
            return made.model_copy(update={"attempts": (*attempts, *made.attempts)})


def _attempted(made: Cycle, arguments: dict[str, Any], verdict: Verdict) -> Cycle:
    attempt = Attempt(arguments=arguments, metrics=made.evaluation.metrics, verdict=verdict, run_id=made.model.run_id)
    return made.model_copy(update={"attempts": (attempt,)})


def _told(made: Cycle, stages: Stages, **results: Any) -> Cycle:
    """The record with its times and the run of Prefect that made it."""
    return made.model_copy(update={"stages": tuple(stages.times), "flow_run": str(flow_run.id or ""), **results})

"""Make a serving image of a model version, and prove that it answers."""

from __future__ import annotations

import asyncio
import threading

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.engine import ContainerEngine
from tasks.retries import is_transient
from tasks.reuse import find, once
from volvox import progress
from volvox.cancelling import in_thread
from volvox.errors import InvalidInput
from volvox.identity import digest_of, stage_key
from volvox.modules import discovery
from volvox.modules.calling import describe
from volvox.packaging.context import Recipe, image_labels, serving_code
from volvox.packaging.engine import Engine, Unfetchable
from volvox.packaging.images import Packaging
from volvox.packaging.proving import Question
from volvox.records import Dataset, Evaluation, Image, ModelVersion
from volvox.serving.smoke import file_argument
from volvox.settings import Home
from volvox.store import Store

_NOT_ASKED = "none was asked for (--no-image)"


@task(name="package_model", retries=1, retry_delay_seconds=5, retry_condition_fn=is_transient, cache_policy=NO_CACHE)
@progress.working
async def package_model(
    version: ModelVersion,
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    store: Store,
    engine: ContainerEngine,
    build: bool = True,
) -> Image:
    """Build the image that serves `version`, have it answer a held-out image, name it; or find that this was done.

    Without an engine, or where its base image or packages cannot be fetched, or if no image is asked for, the build
    context is kept and the record says why; as soon as it can be built, the next call does.

    Args:
        version: The registered version that the image carries.
        evaluation: What the image must answer for a held-out image.
        dataset: Where that image comes from.
        store: Where the build context and the bill of materials are kept.
        engine: The container engine, its base image and the registry.
        build: Whether to build at all.

    Raises:
        InvalidInput: If a dependency of the module is not installed here, or a step of the build fails.
        Unavailable: If the engine or the registry stops answering (tried again once).
        VolvoxError: If the image does not answer as it should; it gets no name then.
    """
    module, opened = discovery.find(version.module), engine.open()
    why_not = opened.why_not() if build else _NOT_ASKED
    code = digest_of([serving_code(), module.code])
    inputs = [version.digest, evaluation.digest, dataset.digest]
    asked = [engine.base, engine.gpu, engine.registry]
    key = stage_key("packaging", code=code, inputs=inputs, arguments=asked)
    if not why_not:
        key = _unless_removed(store, key, opened)
    elif find(store, "packaging", key, Image) is None:  # an image that was built earlier counts without an engine too
        key = stage_key("packaging", code=code, inputs=inputs, arguments=[*asked, why_not])
        progress.note(f"no image: {why_not}")

    async def package() -> Image:
        file = await asyncio.to_thread(_held_out_image, dataset, store)
        recipe = Recipe(
            title=version.name,
            version=version.version,
            module=module,
            weights=store.tree(version.weights_tree),
            check=store.tree(dataset.held_out_tree) / "images" / file,
            base=engine.base,
            gpu=engine.gpu,
            labels=_labels(version, dataset, module, engine),
        )
        argument = file_argument((await describe(module, Home.current())).get("predict", [])) or ""
        expected = await asyncio.to_thread(_expected, file, evaluation, dataset, store)
        question = Question(recipe.check, version.name, argument, dataset.classes, expected)

        def work(cancelled: threading.Event) -> Image:
            packaging = Packaging(recipe, version.digest, store, cancelled)
            if why_not:
                return packaging.keep(why_not)
            try:
                return packaging.build(opened, question, engine.registry)
            except Unfetchable as error:
                # Everything but the image works without it; the next call tries again.
                progress.note(f"no image: {error}")
                return packaging.keep(str(error))

        return await in_thread(work)

    return await once(store, "packaging", key, Image, package)


def _unless_removed(store: Store, key: str, engine: Engine) -> str:
    """`key`, or the one after it for each time that its image was removed from the engine, or could not be built."""
    while (kept := find(store, "packaging", key, Image)) is not None and not (kept.built and engine.has(kept.image_id)):
        key = stage_key("packaging", inputs=[key], arguments="removed")
    return key


def _held_out_image(dataset: Dataset, store: Store) -> str:
    """The first image of the held-out part, by name."""
    from volvox.evaluation.predictions import held_out

    files = sorted(held_out(store.tree(dataset.held_out_tree)))
    if not files:
        raise InvalidInput(f"dataset {dataset.name!r} has no held-out image to ask the serving image; prepare it again")
    return files[0]


def _expected(file: str, evaluation: Evaluation, dataset: Dataset, store: Store) -> tuple[str, float] | None:
    """The class that the evaluation found for `file` and its probability, where it kept its predictions."""
    from volvox.evaluation.predictions import Predictions

    if not evaluation.predictions_object:
        return None
    said = Predictions.load(store.path(evaluation.predictions_object), dataset.classes)
    if file not in said.files:
        return None
    probabilities = said.of([file]).probabilities[0]
    return said.classes[int(probabilities.argmax())], float(probabilities.max())


def _labels(
    version: ModelVersion, dataset: Dataset, module: discovery.Module, engine: ContainerEngine
) -> dict[str, str]:
    digests = {
        "digest": version.digest,
        "model": version.model,
        "dataset": dataset.digest,
        "code": module.code,
        "module": f"{module.name} {module.version}",
    }
    try:
        metadata = module.metadata()
    except InvalidInput:  # the catalogue tells; an image needs none of it
        metadata = {}
    return image_labels(version.name, version.version, metadata, digests, base=engine.base)

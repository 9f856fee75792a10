"""Where each stage of a cycle runs: as somebody stated, or as the stage's needs and the pools' offers say."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from volvox import progress
from volvox.errors import InvalidInput, NotFound
from volvox.pools.definition import HERE, PoolDefinition
from volvox.pools.files import pool_paths, read_pools
from volvox.pools.needs import Needs
from volvox.pools.placement import Placement, PoolState, place
from volvox.pools.requests import job_variables
from volvox.settings import Home
from volvox.stack import state as services
from volvox.store import Store

STAGES = ("data", "training", "evaluation", "registration", "packaging", "publication", "serving", "inference")
# What a bare pool name means: the stages that compute. The others need services or files of this machine.
COMPUTING = ("training", "evaluation")
AUTO = "auto"
_MODULE = "image_classifier"
_SHOW_SECONDS = 3.0
_LOOK_SECONDS = 0.5
_COMING_SECONDS = 60.0  # a worker's imports, on a machine that does other things too


@dataclass(frozen=True)
class Placed:
    """Where one run of a stage goes.

    Attributes:
        placement: The pool with the reasons for it.
        job_variables: What the pool's job template is told of this run.
        gpus: How many GPUs it needs.
    """

    placement: Placement
    job_variables: dict[str, Any]
    gpus: int = 0

    @property
    def here(self) -> bool:
        """Whether it runs in this process."""
        return self.placement.pool == HERE


def parse_places(stated: Iterable[str]) -> dict[str, str]:
    """`["kubernetes", "data=docker"]` -> stage -> pool; a pool alone is for the stages that compute.

    Raises:
        InvalidInput: If a stage of that name does not exist.
    """
    places: dict[str, str] = {}
    for word in stated:
        stage, equals, pool = word.partition("=")
        if not equals:
            places.update({name: places.get(name, stage) for name in COMPUTING})
        else:
            places[stage] = pool
    return checked_places(places)


def checked_places(places: Mapping[str, str]) -> dict[str, str]:
    """`places`, if every stage in it exists and every pool has a name.

    Raises:
        InvalidInput: If not.
    """
    for stage, pool in places.items():
        if stage not in STAGES:
            near = get_close_matches(stage, STAGES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInput(f"there is no stage {stage!r} to place{hint}; there are {', '.join(STAGES)}")
        if not pool:
            raise InvalidInput(f"stage {stage!r} is placed on no pool; `volvox pools` shows those there are")
    return dict(places)


class Places:
    """The places of one cycle's stages."""

    def __init__(
        self, stated: Mapping[str, str] | None = None, home: Home | None = None, store: Store | None = None
    ) -> None:
        """Take what was stated: stage -> pool, `here` or `auto`; training that is not stated is `auto`.

        Args:
            stated: What somebody chose.
            home: Whose pool files count.
            store: Where the records of training images are, for pools that name no image.

        Raises:
            InvalidInput: If a stage does not exist, or a pool's file is wrong.
            NotFound: If a stated pool does not exist.
        """
        self._home, self._store = home or Home.current(), store
        self._known: dict[str, PoolDefinition] = {}
        self._stated = {"training": AUTO, **checked_places(stated or {})}
        wanted = {pool for pool in self._stated.values() if pool not in (HERE, AUTO)}
        self._pools = {name: pool for name, pool in read_pools(self._home).items() if pool.enabled or name in wanted}
        for pool in wanted - set(self._pools):
            near = get_close_matches(pool, self._pools, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted([*self._pools, HERE, AUTO]))
            raise NotFound(f"there is no pool {pool!r}{hint}; there are {known} (`volvox pools`)")

    async def refuse_early(self, module: str) -> None:
        """Refuse what a stated pool can never take; whether its worker is up is seen when there is something to do.

        Args:
            module: The module that is to learn.

        Raises:
            NoPoolFits: If the pool lacks something.
            PoolDown: If it is switched off.
            NotFound: If the module is not installed, or its training image was not built for the store.
        """
        stated = {stage: pool for stage, pool in self._stated.items() if pool not in (HERE, AUTO)}
        if not stated:
            return
        candidates = await asyncio.to_thread(self.definitions)
        as_if = dict.fromkeys(candidates, PoolState(online=True))
        for stage, pool in stated.items():
            needs = await asyncio.to_thread(_needs, stage, {"module": module})
            place(needs, candidates, as_if, pool)
            self._variables(self._pools[pool], {"module": module}, needs)

    async def of(self, stage: str, parameters: Mapping[str, Any]) -> Placed:
        """Where `stage` with these parameters goes; told as progress where there was something to choose.

        Raises:
            NoPoolFits: If the stated pool, or every pool, lacks something.
            PoolDown: If no worker would take it.
        """
        stated, nodes = self._stated.get(stage, HERE), int(parameters.get("nodes") or 1)
        self.check_nodes(nodes)
        if nodes == 1 and (stated == HERE or (stated == AUTO and not self._elsewhere())):
            return Placed(Placement(HERE, (), stated=stated == HERE), {})
        needs = await asyncio.to_thread(_needs, stage, parameters)
        stated = "" if stated == AUTO else stated
        candidates = await asyncio.to_thread(self.definitions, nodes)
        placement = place(needs, candidates, await self._states(stated), stated)
        progress.note(f"placed on {placement.reasons[0]}")
        await _shown(stage, placement)
        if placement.pool == HERE:
            return Placed(placement, {})
        variables = await asyncio.to_thread(self._variables, self._pools[placement.pool], parameters, needs)
        return Placed(placement, variables, needs.gpus)

    def _variables(self, pool: PoolDefinition, parameters: Mapping[str, Any], needs: Needs) -> dict[str, Any]:
        """What the pool's job template is told of one run."""
        variables = job_variables(pool, needs)
        if pool.starts_containers and not pool.image:
            variables["image"] = self._image(_module(parameters), needs.gpus > 0)
        return variables

    def _image(self, module: str, gpu: bool) -> str:
        """The newest training image of `module`.

        Raises:
            NotFound: If none was built.
        """
        from volvox.modules import discovery
        from volvox.packaging.training_context import training_code
        from volvox.packaging.training_images import newest

        more = (f" --module {module}" if module != _MODULE else "") + (" --gpu" if gpu else "")
        image = newest(self._store, module, gpu=gpu) if self._store else None
        if image is None:
            raise NotFound(
                f"no training image of {module} was built for this store, and the pool's file names none; "
                f"`volvox images --training{more}` builds it"
            )
        if image.code != training_code(discovery.find(module)):
            progress.note(f"the training image holds other code than this machine; `volvox images --training{more}`")
        return image.reference

    def _elsewhere(self) -> bool:
        """Whether any pool is more than processes of this machine, which is what `here` is without a detour."""
        return any(pool.starts_containers for pool in self._pools.values())

    def check_nodes(self, nodes: int) -> None:
        """Nothing, if a training on so many nodes has a pool to go to.

        Raises:
            InvalidInput: If not.
        """
        stated = self._stated["training"]
        if nodes > 1 and not any(
            pool.type == "kubernetes" and stated in (name, AUTO) for name, pool in self._pools.items()
        ):
            where = f"{stated!r} is none" if stated != AUTO else "none is on; `volvox pools enable kubernetes`"
            raise InvalidInput(f"a training on {nodes} nodes needs a pool of type kubernetes, and {where}")

    def definitions(self, nodes: int = 1) -> dict[str, PoolDefinition]:
        """This process and the pools that a stage may go to; to look at the machine may take a second, once.

        Args:
            nodes: How many nodes it needs; what cannot start several is left out.
        """
        from volvox.pools import machine

        if not self._known:
            own = machine.this_machine()
            filled = {name: machine.filled(pool, own) for name, pool in self._pools.items()}
            self._known = {HERE: machine.here(own), **filled}
        return {name: pool for name, pool in self._known.items() if nodes == 1 or pool.type == "kubernetes"}

    async def _states(self, stated: str) -> dict[str, PoolState]:
        """What is true of the pools; of one that was switched on a moment ago, once it is true."""
        from prefect.client.orchestration import get_client

        from flows.pool_states import pool_states

        told = False
        async with get_client() as client:
            while True:
                states = await pool_states(client, self._pools)
                state = states.get(stated)
                if state is None or state.online or state.paused or not self._is_coming(stated):
                    return states
                if not told:
                    progress.note(f"waiting for the worker of pool {stated}, which is starting")
                    told = True
                await asyncio.sleep(_LOOK_SECONDS)

    def _is_coming(self, pool: str) -> bool:
        """Whether the worker of this home lives, and was started, or told of the pool, a moment ago."""
        own = services.read(self._home, "worker")
        if own is None or not own.alive or not own.since or not self._pools[pool].enabled:
            return False
        began = [datetime.fromisoformat(own.since).timestamp()]
        with contextlib.suppress(OSError):
            began.append(pool_paths(self._home)[pool].stat().st_mtime)
        return time.time() - max(began) < _COMING_SECONDS


def _module(parameters: Mapping[str, Any]) -> str:
    """The module that a stage with these parameters is about."""
    if module := parameters.get("module"):
        return str(module)
    about = parameters.get("model") or parameters.get("version")
    return str(getattr(about, "module", _MODULE))


def _needs(stage: str, parameters: Mapping[str, Any]) -> Needs:
    from volvox.modules import discovery
    from volvox.pools.needs import needs_of

    if stage in COMPUTING:
        return needs_of(discovery.find(_module(parameters)), "training" if stage == "training" else "inference")
    return Needs()


async def _shown(stage: str, placement: Placement) -> None:
    """Show the reasons with the Prefect run; a server that does not answer stops nothing."""
    from prefect.artifacts import acreate_markdown_artifact
    from prefect.context import FlowRunContext

    if FlowRunContext.get() is None:
        return
    key = re.sub(r"[^a-z0-9]+", "-", f"placement-{stage}")
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_SHOW_SECONDS):
            await acreate_markdown_artifact(as_markdown(stage, placement), key=key, description=placement.reasons[0])


def as_markdown(stage: str, placement: Placement) -> str:
    """The choice and its reasons for the Prefect UI."""
    how = "as stated" if placement.stated else "by what it needs and what the pools offer"
    lines = [f"Stage **{stage}** goes to **{placement.pool}**, {how}.", ""]
    lines += [f"- {reason}" for reason in placement.reasons]
    return "\n".join(lines)

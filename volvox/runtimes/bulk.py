"""Where many files that wait together are answered: one run of the flow `batch-inference` on a work pool.

It is no `Runtime`: there, a call has an instance, a folder and a limit of time, and all answers of an invocation come
together. Here a run goes on when its dispatcher ends, for hours perhaps, and tells of each file as it is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from volvox.bulk import outcomes
from volvox.bulk.answers import BatchAnswers
from volvox.bulk.listing import Listed, Listing
from volvox.bulk.reaching import unreached
from volvox.errors import InvalidInput, NotFound
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.inbox import Job
from volvox.runtimes.interface import Outcome
from volvox.runtimes.models import Models
from volvox.settings import Home
from volvox.store import Store
from volvox.submitting import Submitted

FLOW = "batch-inference"
_LOOK_SECONDS = 1.0  # between two looks at what a run tells


@dataclass(frozen=True, slots=True)
class Asked:
    """Files that one run is to answer.

    Attributes:
        function: What is asked.
        listing: Digest of the list, which names the run.
        version: Digest of definition and model version that answer.
        module: The model's module, of which a pool of containers needs an image.
        tries: How often a run of this list was begun; each is a run of its own.
        begun: Whether this try was begun before.
    """

    function: Function
    listing: str
    version: str
    module: str
    tries: int = 1
    begun: bool = False


class Way(Protocol):
    """How files are answered by runs; a test has its own."""

    def keep(self, function: Function, jobs: Sequence[Job]) -> Asked:
        """Make a list of jobs; blocks.

        Raises:
            NotFound: If there is no such model.
            Unavailable: If the store does not answer.
        """
        ...

    async def begin(self, asked: Asked) -> Submitted[BatchAnswers]:
        """The run that answers the list: the one that there is, else a new one.

        Raises:
            NotFound: If the pool has no deployment of the flow, or no image of the module.
            InvalidInput: If its jobs would not reach the files.
            PoolDown: If nobody would start a new one.
            Unavailable: If the Prefect server does not answer.
        """
        ...

    def follow(self, run: Submitted[BatchAnswers], asked: Asked) -> AsyncGenerator[list[Outcome], None]:
        """What became of files, as the run tells it; the first list, which may be empty, says that it has begun.

        A file may be told of twice. It ends when the run has completed.

        Raises:
            StageCancelled: If somebody cancelled the run.
            StageCrashed: If what it ran on is gone.
            Unavailable: If the Prefect server or the store does not answer.
            VolvoxError: As the flow itself raises.
        """
        ...

    def pass_over(self, asked: Asked, jobs: Sequence[str]) -> None:
        """Have the run begin none of these jobs any more; blocks."""
        ...


class BatchInference:
    """Runs of the flow on the Prefect server of this home."""

    def __init__(self, home: Home, store: Store, models: Models) -> None:
        """Lists and what becomes of their files lie in `store`, which the pool's jobs must reach."""
        self._home, self._store, self._models = home, store, models

    def keep(self, function: Function, jobs: Sequence[Job]) -> Asked:
        """As `Way.keep`."""
        model = self._models.resolve(function.model)
        version = digest_of([function.version, model.digest])
        listing = Listing(function, version, model, tuple(map(Listed.of, jobs))).keep(self._store)
        return Asked(function, listing, version, model.module)

    async def begin(self, asked: Asked) -> Submitted[BatchAnswers]:
        """As `Way.begin`."""
        from volvox import submitting
        from volvox.pools.requests import gpu_tags

        assert asked.function.bulk is not None
        on = asked.function.bulk.on
        variables = {} if asked.begun else await asyncio.to_thread(self._variables, asked, on)
        return await submitting.adopt(
            FLOW, on=on, key=f"volvox-{asked.listing}-{asked.tries}",
            parameters={"function": asked.function.name, "jobs": asked.listing}, job_variables=variables,
            tags=["volvox", *gpu_tags(asked.function.resources.gpus)], working=not asked.begun,
        )  # fmt: skip

    async def follow(self, run: Submitted[BatchAnswers], asked: Asked) -> AsyncGenerator[list[Outcome], None]:
        """As `Way.follow`."""
        ending, seen, begun = asyncio.ensure_future(run.aresult()), 0, False
        try:
            while not ending.done():
                await asyncio.wait([ending], timeout=_LOOK_SECONDS)
                told = await asyncio.to_thread(outcomes.told, self._store, asked.listing)
                if told is not None and (not begun or len(told.pieces) > seen):
                    new, seen, begun = told.pieces[seen:], len(told.pieces), True
                    yield await asyncio.to_thread(lambda new=new: [*outcomes.read(self._store, new)])
            record = await ending
            yield await asyncio.to_thread(lambda: [*outcomes.read(self._store, [record.outcomes_object])])
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    def pass_over(self, asked: Asked, jobs: Sequence[str]) -> None:
        """As `Way.pass_over`."""
        outcomes.pass_over(self._store, asked.listing, jobs)

    def _variables(self, asked: Asked, on: str) -> dict[str, object]:
        """What the pool's job template is told: memory, processors, GPUs, and the image that holds the module."""
        from volvox.packaging.training_images import newest
        from volvox.pools.files import read_pools
        from volvox.pools.needs import Needs
        from volvox.pools.requests import job_variables

        if (pool := read_pools(self._home).get(on)) is None:
            return {}  # a deployment of the operator's own
        for said, mend in unreached(asked.function, pool):
            raise InvalidInput(f"{said}; {mend}")
        wanted = asked.function.resources
        needs = Needs(cpu=wanted.cpu or 0, memory_mb=wanted.memory_mb or 0, gpus=wanted.gpus)
        variables = job_variables(pool, needs)
        if pool.starts_containers and not pool.image:
            image = newest(self._store, asked.module, gpu=wanted.gpus > 0)
            if image is None:
                more = f" --module {asked.module}" + (" --gpu" if wanted.gpus else "")
                raise NotFound(
                    f"no training image of {asked.module} was built for this store, and the file of pool {on!r} names "
                    f"none; `volvox images --training{more}` builds it"
                )
            variables["image"] = image.reference
        return variables

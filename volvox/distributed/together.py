"""Which of several machines this one is in a training that a work pool has started on all of them.

Whoever starts the machines tells each of them by variables; the first one leaves in the store what the others do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from volvox.distributed.launch import TOKEN
from volvox.errors import InvalidInput

NODES, NODE, RENDEZVOUS, GROUP = "VOLVOX_NODES", "VOLVOX_NODE", "VOLVOX_RENDEZVOUS", "VOLVOX_NODE_GROUP"
STAGE = "nodes"  # of the record by which the first node tells the others what to do
_WAIT_SECONDS = 900.0  # an image may have to be pulled, and the data to be fetched


@dataclass(frozen=True)
class Together:
    """One of several nodes.

    Attributes:
        nodes: How many there are.
        node: Number of this one, from 0.
        rendezvous: `HOST:PORT` of the first one; what it listens on: `:PORT`.
        group: What the nodes know their common record by.
        wait_seconds: How long they wait for each other.
    """

    nodes: int
    node: int
    rendezvous: str
    group: str
    wait_seconds: float = _WAIT_SECONDS

    @classmethod
    def told(cls, nodes: int | None = None) -> Together:
        """What this process' variables say.

        Args:
            nodes: How many nodes were asked for; None: as many as the variables say.

        Raises:
            InvalidInput: If they say nothing, or something else.
        """
        there = int(os.environ.get(NODES) or 1)
        if there != (there if nodes is None else nodes) or not all(
            os.environ.get(name) for name in (RENDEZVOUS, GROUP, TOKEN)
        ):
            raise InvalidInput(
                f"a training on {nodes or 'several'} nodes was asked for, and nobody has started the others; a pool of "
                "type kubernetes does: `volvox cycle --nodes N --on POOL`"
            )
        return cls(there, int(os.environ.get(NODE) or 0), os.environ[RENDEZVOUS], os.environ[GROUP])

    def options(self) -> list[str]:
        """What the launcher is told of it."""
        port = int(self.rendezvous.rpartition(":")[2])
        return [
            "--nodes", str(self.nodes), "--node-rank", str(self.node), "--rendezvous", self.rendezvous,
            "--master-port", str(port + 1), "--wait-seconds", f"{self.wait_seconds:g}",
        ]  # fmt: skip

"""The object store that stages read from and write to."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field

from volvox.settings import Home
from volvox.store import Store


class ObjectStore(Block):
    """
    The store that holds datasets, weights, reports and the records of finished stages.

    Example:
        Open the store that an operator saved:
        ```python
        from blocks.store import ObjectStore

        ObjectStore.load("BLOCK_NAME").open()
        ```
    """

    _block_type_name = "Volvox object store"
    _block_type_slug = "volvox-object-store"

    address: str = Field(default="", description="Path of a folder; empty means the one that VOLVOX_HOME holds.")

    @classmethod
    def local(cls) -> ObjectStore:
        """The store of this machine's VOLVOX_HOME, or the one that VOLVOX_STORE names."""
        return cls(address=Home.current().store)

    def open(self) -> Store:
        """The store itself; folders unpacked from it lie in this machine's cache."""
        home = Home.current()
        return Store.open(self.address or home.store, home.cache)

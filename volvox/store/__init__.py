"""The object store: bytes under their sha256, one small record for each finished stage, locks and checkpoints.

A folder or a bucket is a store, with the same names in it:

    objects/ab/abcdef...        a file's bytes, or a folder as a tar without times, owners or modes
    records/<stage>/<key>.json  what the stage returned
    locks/<stage>-<key>         who is at it: a file that is locked, or a lease
    checkpoints/<key>/...       of a training that did not finish

Objects are never changed. Objects and records appear whole or not at all, so a killed process leaves nothing half.
"""

from volvox.store.folder import FolderStore
from volvox.store.interface import Lock, Store

__all__ = ["FolderStore", "Lock", "Store"]

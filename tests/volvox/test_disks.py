"""A full disk is found where what failed does not name it."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from volvox import disks
from volvox.errors import VolvoxError
from volvox.modules.calling import call_module

# Says what torch says where it cannot write a checkpoint: nothing of a disk.
_TRAINS = """
from pathlib import Path

def train(checkpoints):
    try:
        Path(checkpoints, "epoch").write_bytes(b"0" * (8 << 20))
    except OSError:
        pass
    raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
"""


def test_a_module_that_cannot_write_its_checkpoint_fails_for_the_disk(install_module, small_disk: Path) -> None:
    install_module("writing", _TRAINS)
    with pytest.raises(VolvoxError, match="is full; free some space") as told:
        asyncio.run(call_module("writing", "train", places={"checkpoints": small_disk}))
    assert told.value.exit_code == 1


def test_what_has_room_and_what_is_not_there_is_not_full(tmp_path: Path) -> None:
    assert not disks.is_full(tmp_path)
    assert not disks.is_full(tmp_path / "missing")


def test_it_is_found_behind_what_wraps_it() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    try:
        try:
            raise full
        except OSError as error:
            raise RuntimeError from error
    except RuntimeError as error:
        assert disks.full_behind(error) is full
    assert disks.full_behind(RuntimeError()) is None

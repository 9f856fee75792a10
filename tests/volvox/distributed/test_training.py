"""The image classifier in two processes that the launcher starts, connected by Gloo; one of them fails."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from volvox.errors import ModuleFailed, Unavailable
from volvox.identity import process_started
from volvox.modules.calling import call_module

FAILING = """
import os, signal, time
from pathlib import Path

distributed = True

def train(data, output, checkpoints):
    from image_classifier import api, checkpoints as written

    rank = os.environ["RANK"]
    keep = written.Keeper.on_train_epoch_end
    Path(output, f"pid-{rank}").write_text(str(os.getpid()))

    def fails(self, trainer, pl_module):
        keep(self, trainer, pl_module)
        if rank == "1" and trainer.current_epoch == 2:
            Path(output, "failed").touch()
            if os.environ["HOW"] == "raise":
                raise RuntimeError("the fuse blew")
            os.kill(os.getpid(), signal.SIGKILL)

    written.Keeper.on_train_epoch_end = fails
    return api.train(data=data, output=output, checkpoints=checkpoints, epochs=5000, accelerator="cpu")
"""


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Grey squares of two classes."""
    from PIL import Image

    for label, name in enumerate(("dark", "light")):
        folder = tmp_path / "data" / "images" / name
        folder.mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (16, 16), (60 + 100 * label + number,) * 3).save(folder / f"{number}.png")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [("raise", ModuleFailed, "RuntimeError: the fuse blew"), ("kill", Unavailable, "was killed")],
)
def test_one_process_that_fails_ends_the_other_within_seconds_and_its_own_error_is_told(
    install_module, squares, tmp_path, how, error, said
) -> None:
    pytest.importorskip("pytorch_lightning", reason="training needs torch")
    install_module("failing", FAILING)
    places = {"data": squares, "output": tmp_path / "output", "checkpoints": tmp_path / "kept"}
    (tmp_path / "output").mkdir()
    with pytest.raises(error, match=said):
        asyncio.run(call_module("failing", "train", places=places, processes=2, environment={"HOW": how}))
    seconds = time.time() - (tmp_path / "output" / "failed").stat().st_mtime
    print(f"{how}: all ended after {seconds:.2f} s")
    assert seconds < 15  # 2 on a quiet machine
    assert not any(process_started(int((tmp_path / "output" / f"pid-{rank}").read_text())) for rank in (0, 1))
    assert (tmp_path / "kept" / "epoch-00003.ckpt").is_file()
    assert not (tmp_path / "output" / "model.json").exists()

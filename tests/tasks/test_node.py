"""A training on two nodes, both of them on this machine: the stage itself, and what runs in the pods beside it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tasks.training import train_model
from volvox.distributed.launch import TOKEN
from volvox.distributed.together import GROUP, NODE, NODES, RENDEZVOUS
from volvox.errors import InvalidInput, ModuleFailed

SEVERAL = """
import json, os
from pathlib import Path
from webargs import fields

distributed = True

def get_train_args():
    return {"epochs": fields.Int(load_default=1)}

def train(data, output, checkpoints, epochs):
    rank = os.environ["RANK"]
    begun = Path(checkpoints, "begun")
    before = int(begun.read_text()) if begun.exists() else 0
    assert (Path(data) / "dataset_files" / "train.txt").is_file()
    if rank == "0":
        begun.write_text(str(epochs))
    if os.environ.get("FAILS") == rank:
        raise RuntimeError("the disk is on fire")
    if rank == "0":
        Path(output, "model.json").write_text("{}")
    return {"metrics": {"world": int(os.environ["WORLD_SIZE"]), "before": before}}
"""


@pytest.fixture
def both(store, home, tracking, name, dataset, install_module, monkeypatch, tmp_path: Path):
    """Start both nodes; the model, and how the other node ended."""
    install_module("several", SEVERAL)

    async def run(fails=""):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        told = {
            NODES: "2", NODE: "0", RENDEZVOUS: f"127.0.0.1:{port}", GROUP: f"volvox-{uuid.uuid4().hex}",
            TOKEN: "secret",
        }  # fmt: skip
        for variable, value in {**told, "FAILS": fails}.items():
            monkeypatch.setenv(variable, value)
        elsewhere = {"VOLVOX_HOME": str(tmp_path / "other"), "VOLVOX_STORE": str(home.root / "store")}
        other = subprocess.Popen(
            [sys.executable, "-m", "tasks.node"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **elsewhere, NODE: "1"},
        )  # fmt: skip
        try:
            model = await train_model.fn(
                "several", dataset, {"epochs": 7}, name=name, start_from=None, store=store, home=home,
                tracking=tracking, processes=2, nodes=2,
            )  # fmt: skip
        except ModuleFailed as error:
            model = error
        said, _ = await asyncio.to_thread(other.communicate, timeout=60)
        return model, other.returncode, said

    return run


def test_two_nodes_train_one_model(both, store) -> None:
    model, code, said = asyncio.run(both())
    assert code == 0, said
    assert model.metrics["world"] == model.processes == 4
    assert [file.name for file in store.tree(model.weights_tree).iterdir()] == ["model.json"]


def test_what_fails_on_the_other_node_ends_both_and_the_next_goes_on_from_the_checkpoint(both) -> None:
    model, code, said = asyncio.run(both(fails="3"))
    assert isinstance(model, ModuleFailed)
    assert "rank 3 on node 1 ended with exit code 1: RuntimeError: the disk is on fire" in str(model)
    assert code == model.exit_code
    assert "the disk is on fire" in said
    again, code, said = asyncio.run(both())
    assert code == 0, said
    assert again.metrics == {"world": 4, "before": 7}


def test_what_fails_on_the_first_node_ends_both(both) -> None:
    model, code, said = asyncio.run(both(fails="0"))
    assert isinstance(model, ModuleFailed)
    assert "the disk is on fire" in str(model)
    assert code, said


def test_nodes_that_nobody_starts_are_not_waited_for(store, home, tracking, name, dataset, install_module) -> None:
    install_module("several", SEVERAL)
    with pytest.raises(InvalidInput, match="2 nodes was asked for, and nobody has started the others"):
        asyncio.run(
            train_model.fn(
                "several", dataset, {}, name=name, start_from=None, store=store, home=home, tracking=tracking, nodes=2
            )
        )

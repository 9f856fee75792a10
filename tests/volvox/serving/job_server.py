"""A real server with a module that can be told how long to take, and what jobs are asked with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from tests.volvox.serving.running_server import RunningServer, digest

TRAINER = """
import json, os, pathlib, subprocess, sys, time
from marshmallow import fields, validate


def get_predict_args():
    return {
        "text": fields.String(load_default="nothing"),
        "seconds": fields.Float(load_default=0.0, validate=validate.Range(0, 60)),
        "do": fields.String(load_default="answer"),
        "runs": fields.String(load_default=""),
        "image": fields.Raw(metadata={"type": "file", "location": "form"}),
        "accept": fields.String(validate=validate.OneOf(["application/json", "text/csv"])),
    }


def predict(text, seconds, do, runs, image=None, accept="application/json"):
    if runs:
        with open(runs, "a") as stream:
            stream.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
    if do == "raise":
        raise KeyError("no such layer")
    if do == "die":
        os._exit(3)
    if accept == "text/csv":
        return text + ",1"
    content = ""
    if image is not None:
        content = pathlib.Path(image.filename).read_text()
        os.remove(image.filename)
    return {"text": text, "content": content}


def get_train_args():
    return {
        "epochs": fields.Integer(load_default=1, validate=validate.Range(1, 1000)),
        "seconds": fields.Float(load_default=0.0),
        "do": fields.String(load_default="train"),
        "layers": fields.List(fields.Integer(), load_default=[8, 4]),
        "start": fields.Raw(metadata={"type": "file", "location": "form"}),
    }


def train(epochs, seconds, do, layers, start=None, output=None, checkpoints=None, weights=None):
    output, kept = pathlib.Path(output), pathlib.Path(checkpoints) / "epoch"
    print("nice", os.nice(0), flush=True)
    if do == "raise":
        raise ValueError("the loss is not a number")
    if do == "exit":
        os._exit(3)
    if do == "family":
        for new_session in (False, True):
            subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, 1); time.sleep(60)"],
                             start_new_session=new_session)
    first = int(kept.read_text()) if kept.exists() else 0
    for epoch in range(first, epochs):
        print(f"epoch {epoch + 1}", flush=True)
        time.sleep(seconds)
        if do != "forget":
            kept.with_name("part").write_text(str(epoch + 1))
            kept.with_name("part").replace(kept)  # killed in between it is the one of before
        step = {"done": epoch + 1, "total": epochs, "unit": "epochs", "metrics": {"loss": float("nan")}}
        with (output / "progress.jsonl").open("a") as stream:
            stream.write(json.dumps(step) + "\\n")
    (output / "model.json").write_text(json.dumps({"epochs": epochs}))
    content = pathlib.Path(start.filename).read_text() if start is not None else ""
    started = (pathlib.Path(weights) / "version").read_text() if weights else ""
    return {"resumed_from_epoch": first, "start": content, "weights": started, "loss": float("nan")}
"""


class JobServer(RunningServer):
    """A server of module `trainer`, which trains and predicts, and of `tiny-plain`, which does not train."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        package, info = self.site / "trainer", self.site / "trainer-1.0.dist-info"
        for made in (package, info):
            made.mkdir()
        (package / "__init__.py").touch()
        (package / "api.py").write_text(TRAINER)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trainer\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[deepaas.v2.model]\ntrainer = trainer.api\n")

    def serve(self, name: str = "trainer", version: str = "1") -> None:
        weights = self.folder / "start" / f"{name}-{version}"
        weights.mkdir(parents=True, exist_ok=True)
        (weights / "version").write_text(f"version {version}")
        module = "trainer" if name == "trainer" else name
        asked = {"module": module, "model_version": digest(name, version), "version": version, "weights": str(weights)}
        answer = self.admin.put(f"/admin/models/{name}", json=asked)
        assert answer.status_code in (200, 201), answer.text

    def later(self, **data: Any) -> dict[str, Any]:
        """A prediction as a job."""
        answer = self.client.post("/v2/models/trainer/predict/?mode=async", data=data)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def train(self, **data: Any) -> dict[str, Any]:
        answer = self.client.post("/v2/models/trainer/train/", data=data)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def job(self, uuid: str) -> dict[str, Any]:
        answer = self.client.get(f"/v2/jobs/{uuid}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(self, uuid: str, *states: str, seconds: float = 30.0) -> dict[str, Any]:
        """The job once it is in one of `states` (default: once it has finished)."""
        states = states or ("SUCCEEDED", "FAILED", "CANCELLED")
        end = time.monotonic() + seconds
        while (job := self.job(uuid))["state"] not in states:
            assert time.monotonic() < end, job
            time.sleep(0.05)
        return job

    def folder_of(self, uuid: str) -> Path:
        return self.home / "serving" / "jobs" / uuid

    def events(self, uuid: str, last: str = "", at_most: int = 1000) -> list[tuple[str, str, str]]:
        """(id, kind, data) of the events after `last`, until the stream ends or there are `at_most`."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        found, event = [], {}
        with httpx.stream("GET", f"{self.url}/v2/jobs/{uuid}/log", headers=headers, timeout=30) as answer:
            assert answer.status_code in (200, 204)
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    event[name] = value
                elif event.keys() == {"id", "event", "data"}:
                    found.append((event["id"], event["event"], event["data"]))
                    event = {}
                    if len(found) == at_most:
                        break
        return found


def processes(uuid: str) -> list[int]:
    """The processes that have the mark of job `uuid`, found without the server's own code."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"VOLVOX_JOB={uuid}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found

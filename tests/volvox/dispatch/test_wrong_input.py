"""Files and scripts that are wrong, through the whole path: each ends with a reason, and the others go on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.volvox.dispatch.conftest import Site, Tame, dispatching, function
from tests.volvox.dispatch.whole import importable, script, whole
from tests.volvox.runtimes.tiny import TinyModels
from volvox.dispatch.work import work_of
from volvox.inbox import Job, open_inbox
from volvox.runtimes.models import Model
from volvox.settings import Home

ROOT = Path(__file__).parents[3]
DOES = """read word rest < "$INPUT_FILE_PATH"
name=$(basename "$INPUT_FILE_PATH")
case "$word" in
hang) trap '' TERM; sleep 600 & wait ;;
eat) exec python3 -c 'import os, time
held = []
while True: held.append(os.urandom(1 << 20) * 8); time.sleep(0.01)' ;;
fill) exec dd if=/dev/zero of="$TMP_OUTPUT_DIR/big" bs=1M ;;
none) exit 0 ;;
elsewhere) echo x > "$TMP_OUTPUT_DIR/$name.log" ;;
link) ln -s /etc/passwd "$TMP_OUTPUT_DIR/stolen"; echo x > "$TMP_OUTPUT_DIR/$name.json" ;;
many) i=0; while [ $i -lt 1000 ]; do echo $i > "$TMP_OUTPUT_DIR/many-$i.json"; i=$((i + 1)); done ;;
wrong) printf 'no \\000 number\\n' >&2; exit 3 ;;
bytes) : > "$TMP_OUTPUT_DIR/$(printf 'a\\377').json" ;;
*) printf '"%s"' "$word" > "$TMP_OUTPUT_DIR/$name.json" ;;
esac
"""
PICKY = """
import pathlib
from marshmallow import ValidationError, fields

def get_predict_args():
    return {"image": fields.Raw(required=True, metadata={"type": "file", "location": "form"})}

def predict(image):
    data = pathlib.Path(image.filename).read_bytes()
    if not data:
        raise ValidationError({"image": ["It is empty."]})
    if not data.startswith(b"GIF8"):
        raise ValidationError({"image": ["It is no GIF."]})
    return {"size": len(data)}
"""


class Picky(TinyModels):
    """A model that takes GIFs alone, and has no files to be proved with."""

    def resolve(self, reference: str) -> Model:
        return replace(super().resolve(reference), module="picky", samples="")

    def samples(self, model: Model) -> list[Path]:
        return []


def told(jobs: dict[str, Job]) -> dict[str, tuple[str, str]]:
    """State and kind of failure of each job."""
    return {key: (job.state, job.error.get("kind", "")) for key, job in jobs.items()}


FINE = ("SUCCEEDED", "")


def test_whatever_a_script_does_the_others_go_on(site: Site, tmp_path: Path) -> None:
    words = ("hang", "eat", "none", "elsewhere", "link", "many", "wrong", "bytes")

    async def check() -> dict[str, Job]:
        async with whole(site, TinyModels(tmp_path)) as here:
            outputs = [{"url": str(site.target), "suffix": [".json"]}]
            more = {"timeout_seconds": 3, "resources": {"memory_mb": 100}, "scaling": {"max_scale": 2}}
            await here.apply(script(site, DOES, outputs=outputs, **more))
            for number, word in enumerate(words):
                here.drop(word, word)
                here.drop(f"fine-{number}")
            jobs = await here.ended(2 * len(words))
            assert len(jobs) == 2 * len(words)
            return jobs

    jobs = asyncio.run(check())
    expected = {
        "hang": ("FAILED", "timeout"), "eat": ("FAILED", "memory"), "wrong": ("FAILED", "failed"), "none": FINE,
        "elsewhere": FINE, "link": FINE, "many": FINE, "bytes": ("FAILED", "unpublished"),
    }  # fmt: skip
    assert told(jobs) == expected | {f"fine-{number}": FINE for number in range(len(words))}
    for key, sentence in {
        "hang": "longer than 3 s",
        "eat": "more than the 100 MB it may",
        "wrong": "exit code 3; it said: no \\0 number",
        "none": "it wrote no file",
        "elsewhere": "none of the 1 files it wrote fits an output",
        "link": "stolen is a link that leaves the output folder",
        "bytes": "is not valid Unicode",
    }.items():
        assert sentence in jobs[key].reason
    names = {path.name for path in site.target.iterdir()}
    fine = {f"fine-{number}.json" for number in range(len(words))}
    assert names == fine | {"link.json"} | {f"many-{number}.json" for number in range(1000)}
    assert {one["key"] for one in jobs["many"].outputs} == {f"many-{number}.json" for number in range(1000)}


@pytest.fixture
def on_a_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A home, with its inbox, on a disk of 24 MB; the places are elsewhere."""
    disk, source, target = tmp_path / "disk", tmp_path / "in", tmp_path / "out"
    for folder in (disk, source, target):
        folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.decode().strip()}")
    monkeypatch.setenv("VOLVOX_HOME", str(disk / "home"))
    monkeypatch.delenv("VOLVOX_INBOX", raising=False)
    home = Home(disk / "home").ensure()
    inbox = open_inbox(home)
    yield Site(home, inbox, source, target)
    inbox.close()
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_script_that_fills_the_disk_of_the_inbox_itself(on_a_small_disk: Site, tmp_path: Path) -> None:
    site = on_a_small_disk

    async def check() -> None:
        async with whole(site, TinyModels(tmp_path)) as here:
            retries = {"attempts": 20, "first_pause_seconds": 0.2, "longest_pause_seconds": 1}
            await here.apply(script(site, DOES, retries=retries))
            here.drop("fill", "fill")
            for number in range(6):
                here.drop(f"fine-{number}")
            jobs = await here.ended(7)
            assert told(jobs) == {"fill": ("FAILED", "storage"), **{f"fine-{number}": FINE for number in range(6)}}
            assert "full" in jobs["fill"].reason
            assert {path.name for path in site.target.iterdir()} == {f"fine-{number}.json" for number in range(6)}
            assert not [*(site.home.root / "dispatch" / "jobs").iterdir()], "nothing is left of any job"

    asyncio.run(check())


def test_a_file_that_the_disk_here_cannot_hold_is_tried_again_until_there_is_room(on_a_small_disk: Site) -> None:
    site = on_a_small_disk
    ballast = site.home.root / "ballast"

    async def check() -> None:
        retries = {"attempts": 50, "first_pause_seconds": 0.05, "longest_pause_seconds": 0.2}
        async with dispatching(site, Tame(), retries=retries) as here:
            ballast.write_bytes(bytes(16 << 20))
            here.drop("large", bytes(12 << 20))
            here.drop("small", b"abc")
            await here.until(lambda: site.inbox.jobs(key="large", states=["PENDING"]))
            (waits,) = site.inbox.jobs(key="large", states=["PENDING"])
            assert "full" in waits.reason
            await here.ended(1)
            ballast.unlink()
            assert {job.state for job in await here.ended(2)} == {"SUCCEEDED"}

    asyncio.run(check())


@pytest.mark.parametrize("limit", [{"max_object_mb": 1}, {"resources": {"storage_mb": 1}}])
def test_a_huge_file_is_refused_before_it_is_fetched(site: Site, limit: dict[str, object]) -> None:
    async def check() -> None:
        async with dispatching(site, **limit) as here:
            with (site.source / "huge").open("wb") as stream:
                stream.truncate(64 << 30)  # fetching it would take minutes, and the disk
            here.tell("huge")
            here.drop("just fits", bytes(1 << 20))
            jobs = {job.key: job for job in await here.ended(2)}
            assert told(jobs) == {"huge": ("FAILED", "refused"), "just fits": FINE}
            assert "it has 65,536.0 MB, and function 'f' takes 1 MB at most" in jobs["huge"].reason
            assert here.runtime.asked == [["just fits"]]
            assert not work_of(site.home, jobs["huge"].id).folder.exists()

    asyncio.run(check())


def test_files_that_a_model_cannot_use(site: Site, tmp_path: Path, install_module) -> None:
    install_module("picky", PICKY)
    files = {"empty.gif": b"", "page.gif": b"<html>", "half.gif": b"GI", "a.gif": b"GIF89a...", "b.gif": b"GIF87a."}

    async def check() -> None:
        async with whole(site, Picky(tmp_path / "models")) as here:
            await here.apply(function(site, model="tiny/1"))
            for name, content in files.items():
                here.drop(name, content)
            jobs = await here.ended(len(files))
            refused = ("FAILED", "refused")
            assert told(jobs) == {name: FINE if name[0] in "ab" else refused for name in files}
            assert jobs["empty.gif"].reason == "the model refuses it: image: It is empty."
            assert jobs["page.gif"].reason == "the model refuses it: image: It is no GIF."
            assert sorted(answer["size"] for answer in here.answers().values()) == [7, 9]

    asyncio.run(check())


def test_a_file_that_a_model_hangs_at_takes_down_none_that_is_answered_with_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module answers files together, so it is not known which of them it was until each is asked alone."""
    monkeypatch.setenv("PYTHONPATH", importable(tmp_path))
    words = ("hang", "sleep 60", "eat", "crash", "raise", "refuse")

    async def check() -> None:
        async with whole(site, TinyModels(tmp_path / "models")) as here:
            more = {"timeout_seconds": 2, "retries": {"attempts": 2, "first_pause_seconds": 0.1}}
            await here.apply(function(site, model="tiny/1", resources={"memory_mb": 300}, **more))
            for number in range(12):
                here.drop(f"fine-{number}")
                if number < len(words):
                    here.drop(words[number], words[number])
            jobs = await here.ended(12 + len(words), 100)
            kinds = {"hang": "timeout", "sleep 60": "timeout", "eat": "memory", "crash": "gone", "raise": "failed",
                     "refuse": "refused"}  # fmt: skip
            expected = {name: ("FAILED", kind) for name, kind in kinds.items()}
            assert told(jobs) == expected | {f"fine-{number}": FINE for number in range(12)}
            assert all(jobs[name].reason for name in words)
            assert len(here.answers()) == 12

    asyncio.run(check())


AS_USER = """
import asyncio, json, sys
from pathlib import Path
from tests.volvox.dispatch.conftest import Site, dispatching, function, opened
from volvox.dispatch.sources import Sources
from volvox.functions import registry
from volvox.inbox import Arrival, open_inbox
from volvox.settings import Home

async def main(root):
    home = Home(root / "home").ensure()
    inbox = open_inbox(home)
    site = Site(home, inbox, root / "in", root / "out")
    registry.apply(home, function(site))
    async with dispatching(site) as here:
        sources = asyncio.create_task(Sources(home, inbox, opened).run())
        inbox.record([Arrival(f"file://{site.source}", "theirs/secret"), Arrival(f"file://{site.source}", "secret")])
        await here.ended(5)
        await asyncio.sleep(2.5)  # two more sweeps
        told = [[one.key, one.state, one.error.get("kind", ""), one.reason] for one in inbox.jobs()]
        print(json.dumps([told, inbox.arrivals_waiting(), sorted(here.answers())]))
        sources.cancel()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_files_and_folders_that_this_user_may_not_read(tmp_path: Path, as_user) -> None:
    """As an ordinary user: a file and a folder without permission, told of and swept, beside others."""
    root = tmp_path / "theirs"
    for folder in ("in/theirs", "in/ours", "out"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "ours/b", "z", "secret", "theirs/secret"):
        (root / "in" / name).write_text("fine")
        os.utime(root / "in" / name, (1_700_000_000, 1_700_000_000))
    (root / "in" / "secret").chmod(0)
    (root / "in" / "theirs").chmod(0)
    for folder in (root, root / "out"):
        folder.chmod(0o777)
    done = as_user(AS_USER, str(root), env={"PYTHONPATH": str(ROOT), "HOME": str(root), "VOLVOX_SWEEP_SECONDS": "1"})
    assert done.returncode == 0, done.stderr
    told, waiting, answers = json.loads(done.stdout)
    jobs = {key: (state, kind, reason) for key, state, kind, reason in told}
    refused = ("FAILED", "refused")
    expected = {"a": FINE, "ours/b": FINE, "z": FINE, "secret": refused, "theirs/secret": refused}
    assert {key: job[:2] for key, job in jobs.items()} == expected
    for key in ("secret", "theirs/secret"):
        assert "is refused to this user (Permission denied); change its owner or mode" in jobs[key][2]
    assert (len(told), waiting) == (5, 0), "nothing is told again with each sweep"
    assert [name.rpartition("/")[2][0] for name in answers] == ["a", "b", "z"]

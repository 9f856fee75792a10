"""The command lines of container engines, most of which are not here: they are compared with what is documented."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from volvox.errors import InvalidInput, Unavailable
from volvox.runtimes.engines import KINDS, Container, Mount, found, run

SCRIPT = Container(
    name="volvox-1",
    image="registry.example.org/team/image:1",
    command=("/bin/sh", "-u", "/volvox/script"),
    environment={"EVENT": '{"a": "b\nc"}', "PATH": "/opt/bin", "TMP_INPUT_DIR": "/volvox/input", "TOKEN": "secret"},
    mounts=(Mount("/home/a,b/in", "/volvox/input"), Mount("/home/out", "/volvox/output", writable=True)),
    labels={"volvox.function": "f", "volvox.role": "call"},
    user="1000:1000",
    memory_mb=256,
    cpu=0.5,
    gpus=1,
)
MODEL = Container(name="volvox-2", image="sha256:ab", arguments=("--batch", "4"), port=5000, memory_mb=512)

_DOCKER = [
    "run", "--name", "volvox-1", "--init", "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
    "--pids-limit", "4096", "--interactive", "--cap-add=CHOWN", "--cap-add=DAC_OVERRIDE", "--cap-add=FOWNER",
    "--cap-add=SETGID", "--cap-add=SETUID", "--label=volvox.function=f", "--label=volvox.role=call",
    "--memory", "256m", "--memory-swap", "256m", "--cpus", "0.5",
]  # fmt: skip
_REST = [
    "--user", "1000:1000",
    "--mount", 'type=bind,"source=/home/a,b/in",target=/volvox/input,readonly',
    "--mount", "type=bind,source=/home/out,target=/volvox/output",
    "--env", "EVENT", "--env", "PATH=/opt/bin", "--env", "TMP_INPUT_DIR", "--env", "TOKEN",
    "--entrypoint", "/bin/sh", "registry.example.org/team/image:1", "-u", "/volvox/script",
]  # fmt: skip
_GOLDEN = {
    "docker": [*_DOCKER, "--gpus", "1", *_REST],
    "podman": [*_DOCKER, "--device=nvidia.com/gpu=0", *_REST],
    "udocker": [
        "--quiet", "run", "--nobanner", "--rm", "--volume=/home/a,b/in:/volvox/input",
        "--volume=/home/out:/volvox/output", '--env=EVENT={"a": "b\nc"}', "--env=PATH=/opt/bin",
        "--env=TMP_INPUT_DIR=/volvox/input", "--env=TOKEN=secret", "--user=1000", "--entrypoint=/bin/sh",
        "registry.example.org/team/image:1", "-u", "/volvox/script",
    ],
    "apptainer": [
        "--silent", "exec", "--containall", "--cleanenv", "--writable-tmpfs",
        "--mount", 'type=bind,"source=/home/a,b/in",destination=/volvox/input,ro',
        "--mount", "type=bind,source=/home/out,destination=/volvox/output",
        "--memory", "256M", "--cpus", "0.5", "--nv", "docker://registry.example.org/team/image:1",
        "/bin/sh", "-u", "/volvox/script",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_s_command_line(kind) -> None:
    line, variables = run(kind, f"/usr/bin/{kind}", SCRIPT)
    assert line == [f"/usr/bin/{kind}", *_GOLDEN[kind]]
    if kind in ("docker", "podman"):  # values that nobody else shall read are in the environment of the process only
        assert variables == {name: value for name, value in SCRIPT.environment.items() if name != "PATH"}
        assert not any("secret" in word for word in line)
    if kind == "apptainer":
        assert variables == {f"APPTAINERENV_{name}": value for name, value in SCRIPT.environment.items()}


def test_a_model_s_command_line() -> None:
    line, _ = run("docker", "docker", replace(MODEL, user="1000:1000"))
    assert line == [
        "docker", "run", "--name", "volvox-2", "--init", "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
        "--pids-limit", "4096", "--detach", "--read-only", "--tmpfs", "/tmp:size=256m,mode=1777",
        "--publish", "127.0.0.1::5000", "--memory", "512m", "--memory-swap", "512m", "--user", "1000:1000",
        "sha256:ab", "--batch", "4",
    ]  # fmt: skip
    for kind in ("udocker", "apptainer"):
        with pytest.raises(InvalidInput, match="needs docker or podman"):
            run(kind, kind, MODEL)


def test_an_image_s_own_command_is_kept() -> None:
    own = replace(SCRIPT, command=(), arguments=("a", "b"))
    assert run("docker", "docker", own)[0][-3:] == ["registry.example.org/team/image:1", "a", "b"]
    assert "--entrypoint" not in run("docker", "docker", own)[0]
    assert run("apptainer", "apptainer", replace(own, image="/images/a.sif"))[0][2:3] == ["run"]


def test_the_first_engine_that_is_installed_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="none of docker, podman, udocker, apptainer"):
        found()
    for name, expected in (("singularity", "apptainer"), ("udocker", "udocker"), ("podman", "podman")):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(stat.S_IRWXU)
        assert found() == (expected, str(tmp_path / name))
    assert found("apptainer") == ("apptainer", str(tmp_path / "singularity"))
    with pytest.raises(Unavailable, match="none of docker is"):
        found("docker")
    with pytest.raises(InvalidInput, match="no container engine"):
        found("lxc")

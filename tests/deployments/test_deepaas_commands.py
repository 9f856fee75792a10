"""The distribution that gives DEEPaaS's commands their names, installed for real."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from volvox.packaging.wheels import build_from_source

SOURCE = Path(__file__).parent.parent.parent / "deployments" / "deepaas_commands"


def test_its_commands_run_once_it_is_installed_and_name_what_exists(tmp_path: Path) -> None:
    wheel = build_from_source("volvox-deepaas", SOURCE, tmp_path)
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--prefix", target, wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    scripts = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["scripts"]
    assert sorted(path.name for path in (target / "bin").iterdir()) == sorted(scripts)
    for name in scripts:
        done = subprocess.run([target / "bin" / name, "--version"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "2.6.0\n"), done.stderr

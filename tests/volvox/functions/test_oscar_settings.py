"""Settings of a function on an OSCAR cluster, in Volvox's own form."""

from __future__ import annotations

from pathlib import Path

import pytest

from volvox.errors import InvalidInput
from volvox.functions.reading import read
from volvox.functions.writing import written
from volvox.runtimes.oscar_cluster.access import Cluster
from volvox.runtimes.oscar_cluster.settings import OscarSettings

GOOD = """
providers:
  clusters.site-a: {endpoint: "https://a.example.org", credentials: "block:site-a"}
  clusters.site-b: {endpoint: "https://b.example.org", ssl_verify: false, token_file: /run/token}
functions:
- name: plants
  image: an/image
  script: "#!/bin/sh\\necho"
  runtime: oscar
  settings: {cluster: site-b, calls: job, start_seconds: 900, vo: lab, expose: {min_scale: 2}}
- name: flowers
  image: an/image
  script: "#!/bin/sh\\necho"
  runtime: oscar
  settings: {cluster: site-a}
"""


def defined(folder: Path, text: str):
    path = folder / "f.yaml"
    path.write_text(text)
    return read(path)


def test_each_function_has_its_cluster_and_only_that(tmp_path: Path) -> None:
    plants, flowers = defined(tmp_path, GOOD).functions
    settings = OscarSettings.of(plants)
    assert (settings.cluster, settings.calls, settings.start_seconds, settings.run_seconds) == (
        "site-b",
        "job",
        900,
        60,
    )
    there = Cluster.of(plants)
    assert (there.name, there.reference) == ("site-b", "")
    access = there.access()
    assert (access.endpoint, access.verify, access.token_file) == ("https://b.example.org", False, "/run/token")
    there = Cluster.of(flowers)
    assert (there.name, there.reference) == ("site-a", "block:site-a")
    access = there.access(lambda name: {"endpoint": "https://a.example.org", "auth_user": name, "auth_password": "p"})
    assert (access.user, access.password, access.verify) == ("site-a", "p", True) and "p'" not in repr(access)
    assert "clusters.site-a" not in plants.settings["storage_providers"]


def test_written_and_read_again_it_is_the_same(tmp_path: Path) -> None:
    functions = defined(tmp_path, GOOD).functions
    text, warnings = written(functions)
    assert warnings == [] and defined(tmp_path, text).functions == functions


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("calles: run", "is no setting of runtime oscar, did you mean 'calls'?; allowed are cluster, "),
        ("calls: often", "is 'often'; allowed are auto, run, job"),
        ("name: A Name", "is 'A Name'; write the name of a service"),
        ("visibility: everybody", "is 'everybody'; allowed are private, restricted, public"),
        ("start_seconds: 0", "is 0; write a number from 1 to 86400"),
        ("run_seconds: 4000", "is 4000; write a number from 1 to 3600"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        defined(tmp_path, f"model: digits\nruntime: oscar\nsettings:\n  {line}\n")
    assert f"f.yaml:4: settings.{line.partition(':')[0]}" in str(error.value) and said in str(error.value)


def test_what_is_wrong_inside_of_one_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"f.yaml:5: settings.expose.min_scal .* did you mean 'min_scale'"):
        defined(tmp_path, "model: digits\nruntime: oscar\nsettings:\n  expose:\n    min_scal: 1\n")


def test_a_secret_does_not_stand_in_a_file(tmp_path: Path) -> None:
    text = "model: digits\nruntime: oscar\nproviders:\n  clusters.a: {endpoint: 'https://a', oidc_token: abc}\n"
    with pytest.raises(InvalidInput, match="is a secret, which does not belong here"):
        defined(tmp_path, text)


def test_a_file_of_oscar_keeps_where_its_password_stands(tmp_path: Path) -> None:
    text = """
functions:
  oscar:
  - site-a:
      name: plants
      image: an/image
      script: "#!/bin/sh\\necho"
clusters:
  site-a: {endpoint: "https://a.example.org", auth_user: admin, auth_password: hush, ssl_verify: false}
"""
    (function,) = defined(tmp_path, text).functions
    assert function.runtime == "oscar" and "hush" not in function.model_dump_json()
    access = Cluster.of(function).access()
    assert (access.user, access.password, access.verify) == ("admin", "hush", False)

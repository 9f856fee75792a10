from __future__ import annotations

from pathlib import Path

import pytest

from volvox.errors import InvalidInput
from volvox.functions.reading import read
from volvox.runtimes.pods.settings import PodSettings

GOOD = """
model: digits
runtime: kubernetes
settings:
  namespace: lab
  pull_secret: registry
  user: 1000:1000
  node_selector: {gpu: "yes"}
  tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]
  start_seconds: 900
  read_only: no
"""


def defined(folder: Path, text: str):
    path = folder / "f.yaml"
    path.write_text(text)
    return read(path)


def test_settings_are_read_and_what_is_not_stated_has_a_default(tmp_path: Path) -> None:
    (function,) = defined(tmp_path, GOOD).functions
    settings = PodSettings.of(function)
    assert (settings.namespace, settings.pull_secrets, settings.start_seconds) == ("lab", ("registry",), 900)
    assert (settings.read_only, settings.user_and_group, settings.service) == (False, (1000, 1000), True)
    assert settings.node_selector == {"gpu": "yes"} and settings.tolerations[0]["operator"] == "Exists"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("namespce: lab", "is no setting of runtime kubernetes, did you mean 'namespace'?; allowed are namespace, "),
        ("namespace: Lab_1", "is 'Lab_1'; write a namespace"),
        ("user: root", "is 'root'; write numbers of user and group"),
        ("cluster_config: kubeconfig", "is 'kubeconfig'; write the whole path of a kubeconfig"),
        ("pull_policy: Sometimes", "is 'Sometimes'; allowed are IfNotPresent, Always, Never"),
        ("labels: {a: 1}", "is 1; write a text, in quotes"),
        ("tolerations: [{kee: a}]", "is no key of a toleration, did you mean 'key'?"),
        ("gpu_resource: gpu", "is 'gpu'; write a resource of nodes, such as nvidia.com/gpu"),
        ("start_seconds: 0", "is 0; write a number from 1 to 86400"),
        ("service: perhaps", "is 'perhaps'; write true or false"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        defined(tmp_path, f"model: digits\nruntime: kubernetes\nsettings:\n  {line}\n")
    assert f"f.yaml:4: settings.{line.partition(':')[0]}" in str(error.value) and said in str(error.value)


def test_settings_of_others_are_left_alone(tmp_path: Path) -> None:
    text = "image: a\ncommand: b\norigin: oscar\nruntime: kubernetes\nsettings: {vo: eosc, image_pull_secrets: [one]}\n"
    (function,) = defined(tmp_path, text).functions
    assert PodSettings.of(function).pull_secrets == ("one",)
    (function,) = defined(tmp_path, "model: a\nruntime: docker\nsettings: {user: root, namespace: Not_One}\n").functions
    with pytest.raises(InvalidInput, match="function 'a': setting namespace is 'Not_One'"):
        PodSettings.of(function.model_copy(update={"runtime": "kubernetes"}))

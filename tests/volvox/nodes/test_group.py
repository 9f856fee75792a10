"""The file of a node group: what it says, and every mistake with its line."""

from __future__ import annotations

import pytest

from volvox.elasticity.policy import NodeLimits
from volvox.errors import InvalidInput
from volvox.nodes.group import Commands, ScalingGroup, read_group, read_groups
from volvox.settings import Home

COMMAND = "command: {list: [/opt/cloud, list], start: /opt/on, stop: [/opt/cloud, stop]}\n"


def write(home: Home, text: str, name: str = "workers"):
    path = home.folder("nodes") / f"{name}.yaml"
    path.write_text(text)
    return path


def test_what_must_be_there_and_what_stands_for_the_rest(home: Home) -> None:
    group = read_group(write(home, f"runtime: kubernetes\n{COMMAND}"))
    assert (group.name, group.runtime, group.functions) == ("workers", "kubernetes", ())
    assert group.limits == NodeLimits(0, 1, 1, 300)
    assert group.ways == Commands(("/opt/cloud", "list"), ("/opt/on",), ("/opt/cloud", "stop"), 60)
    assert (group.gives_up_seconds, group.look_seconds) == (900, 5)


def test_everything(home: Home) -> None:
    text = """
runtime: kubernetes
functions: [a, b]
least: 1
most: 4
slots: 2
idle_seconds: 180
boot_seconds: 400
pull_seconds: 44
cost_per_hour: 0.224
cluster_config: ~/.kube/other
context: there
auto_scaling_group: {name: workers-asg, region: eu-central-1, profile: ops}
"""
    group = read_group(write(home, text))
    assert group.limits == NodeLimits(1, 4, 2, 180)
    assert group.ways == ScalingGroup("workers-asg", "eu-central-1", "ops")
    assert (group.boot_seconds, group.pull_seconds, group.gives_up_seconds) == (400, 44, 1200)
    assert (group.cluster_config, group.context, group.cost_per_hour) == ("~/.kube/other", "there", 0.224)
    assert group.serves("a", "kubernetes")
    assert not group.serves("c", "kubernetes")
    assert not group.serves("a", "docker")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (COMMAND, "runtime is missing"),
        ("runtime: kubernetes\n", "it says not how a node is started and stopped"),
        (f"runtime: kubernetes\n{COMMAND}auto_scaling_group: {{name: x}}\n", "it says twice how"),
        (f"runtime: local\nmosst: 3\n{COMMAND}", ":2: mosst is no key, did you mean 'most'?"),
        (f"runtime: local\nslots: 0\n{COMMAND}", ":2: slots is 0; write a whole number from 1"),
        (f"runtime: local\nleast: 3\nmost: 2\n{COMMAND}", "least is 3, more than most, which is 2"),
        (f"runtime: local\nnames: [a]\nmost: 2\n{COMMAND}", "most is 2, and names has 1"),
        (f"runtime: local\ncontext: x\n{COMMAND}", "cluster_config and context go with runtime: kubernetes"),
        ("runtime: local\ncommand: {start: [x], stop: [y]}\n", "command.list is missing"),
        ("runtime: docker\nauto_scaling_group: {name: x}\n", "seen in a Kubernetes cluster alone"),
        ("runtime: kubernetes\nnames: [a]\nauto_scaling_group: {name: x}\n", "AWS names the nodes"),
        ("runtime: kubernetes\nauto_scaling_group: {group: x}\n", "auto_scaling_group.group is no key"),
        ("[1, 2]\n", "holds keys and values"),
        ("runtime: kubernetes\nleast: 1\nleast: 2\n" + COMMAND, "stands twice"),
    ],
)
def test_mistakes_are_told_with_their_place(home: Home, text: str, said: str) -> None:
    path = write(home, text)
    with pytest.raises(InvalidInput) as caught:
        read_group(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_name_that_nodes_cannot_have(home: Home) -> None:
    path = write(home, f"runtime: local\n{COMMAND}", "Big_ones")
    with pytest.raises(InvalidInput, match="use lower case letters"):
        read_group(path)


def test_two_groups_never_count_the_same_jobs(home: Home) -> None:
    write(home, f"runtime: kubernetes\nfunctions: [a]\n{COMMAND}", "one")
    write(home, f"runtime: kubernetes\nfunctions: [b]\n{COMMAND}", "two")
    write(home, f"runtime: docker\n{COMMAND}", "three")
    assert {*read_groups(home)} == {"one", "two", "three"}
    write(home, f"runtime: kubernetes\n{COMMAND}", "two")
    with pytest.raises(InvalidInput, match="'one' and 'two' serve the same functions of kubernetes"):
        read_groups(home)

"""What an operator says of a group of nodes: whom it serves, how many, and how one is started, listed and stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from volvox.elasticity.policy import NodeLimits
from volvox.errors import InvalidInput
from volvox.functions.document import Value, read_documents, read_text
from volvox.functions.entries import Entries, Reading
from volvox.functions.values import matching, near, number, said, text, texts, whole
from volvox.settings import Home

FOLDER = "nodes"
KEYS = (
    "runtime", "functions", "least", "most", "names", "slots", "idle_seconds", "boot_seconds", "pull_seconds",
    "gives_up_seconds", "look_seconds", "cost_per_hour", "cluster_config", "context", "command", "auto_scaling_group",
)  # fmt: skip
COMMAND_KEYS = ("list", "start", "stop", "seconds")
SCALING_KEYS = ("name", "region", "profile")

_NAME = r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?"
_LONGEST = 7 * 86_400.0
_MOST_NODES = 1_000


@dataclass(frozen=True, slots=True)
class Commands:
    """Programs of the operator; the node's name is added as the last word of `start` and `stop`.

    Attributes:
        listing: Prints a line for each node there is.
        start: Starts a node, and does nothing to one that is on or boots.
        stop: Stops a node, and does nothing to one that is off.
        seconds: How long each may take.
    """

    listing: tuple[str, ...]
    start: tuple[str, ...]
    stop: tuple[str, ...]
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class ScalingGroup:
    """A group of EC2 Auto Scaling, asked with the credentials of the environment or of a profile of the AWS SDK.

    Attributes:
        name: As AWS has it.
        region: Empty: the environment's.
        profile: Empty: the environment's credentials.
    """

    name: str
    region: str = ""
    profile: str = ""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """A group of nodes that are alike.

    Attributes:
        name: The file's.
        runtime: Functions of this runtime run on them.
        functions: Only these of its functions; none: all.
        limits: How many, how many instances on one, and after how many idle seconds one is stopped.
        names: What the nodes may be called; none: the group's name and a number.
        boot_seconds: What a boot is taken for until one was seen.
        pull_seconds: What a new node takes to fetch the image of its first job.
        gives_up_seconds: One that is not on after so long never will be.
        look_seconds: Between two looks at the group.
        cost_per_hour: Of one node.
        cluster_config: Of the runtime `kubernetes`: as a function has it.
        context: Of the runtime `kubernetes`: as a function has it.
        ways: How nodes are started, listed and stopped.
    """

    name: str
    runtime: str
    ways: Commands | ScalingGroup
    functions: tuple[str, ...] = ()
    limits: NodeLimits = field(default_factory=NodeLimits)
    names: tuple[str, ...] = ()
    boot_seconds: float = 0.0
    pull_seconds: float = 0.0
    gives_up_seconds: float = 900.0
    look_seconds: float = 5.0
    cost_per_hour: float = 0.0
    cluster_config: str = ""
    context: str = ""

    def serves(self, function: str, runtime: str) -> bool:
        """Whether this function, on this runtime, runs on its nodes."""
        return runtime == self.runtime and (not self.functions or function in self.functions)


def read_groups(home: Home) -> dict[str, NodeGroup]:
    """The groups of `VOLVOX_HOME/nodes/*.yaml`, by name.

    Raises:
        InvalidInput: If a file is wrong, or two groups serve the same function; every mistake is told with its line.
    """
    found: dict[str, NodeGroup] = {}
    mistakes: list[str] = []
    for path in sorted((home.root / FOLDER).glob("*.yaml")):
        try:
            found[path.stem] = read_group(path)
        except InvalidInput as error:
            mistakes.append(str(error))
    groups = [*found.values()]
    for index, one in enumerate(groups):
        for other in groups[index + 1 :]:
            if one.runtime == other.runtime and (
                not one.functions or not other.functions or {*one.functions} & {*other.functions}
            ):
                mistakes.append(
                    f"the node groups {one.name!r} and {other.name!r} serve the same functions of {one.runtime}; name "
                    "in each its own (functions: [...])"
                )
    if mistakes:
        raise InvalidInput("\n".join(mistakes))
    return found


def read_group(path: Path) -> NodeGroup:
    """The group that a file describes.

    Raises:
        InvalidInput: If the file is wrong; the message names file, line and key, and what is allowed.
    """
    documents = read_documents(read_text(path), str(path))
    if len(documents) != 1 or documents[0].kind != "map":
        raise InvalidInput(f"{path}: a node group's file holds keys and values: {', '.join(KEYS)}")
    reading = Reading(path)
    found = _group(Entries(documents[0], reading), reading)
    if mistakes := [*reading.mistakes, *reading.warnings]:
        raise InvalidInput("\n".join(dict.fromkeys(mistakes)))
    return found


def _group(top: Entries, reading: Reading) -> NodeGroup:
    named = Value(top.value.file, 1, "the file's name", "text", reading.path.stem)
    name = reading.tried(matching(_NAME, "use lower case letters, digits and '-'"), named, "")
    names = tuple(top.take("names", texts, []))
    most = top.take("most", whole(1, _MOST_NODES), len(names) or 1)
    least = top.take("least", whole(0, _MOST_NODES), 0)
    boot = top.take("boot_seconds", number(0, _LONGEST), 0.0)
    if least > most:
        reading.mistakes.append(f"{top.value.where}: least is {least}, more than most, which is {most}")
    if names and most > len(names):
        reading.mistakes.append(f"{top.value.where}: most is {most}, and names has {len(names)}")
    group = NodeGroup(
        name=name,
        runtime=top.need("runtime", said, ""),
        functions=tuple(top.take("functions", texts, [])),
        limits=NodeLimits(
            least, most, top.take("slots", whole(1, 10_000), 1), top.take("idle_seconds", number(0, _LONGEST), 300.0)
        ),
        names=names,
        boot_seconds=boot,
        pull_seconds=top.take("pull_seconds", number(0, _LONGEST), 0.0),
        gives_up_seconds=top.take("gives_up_seconds", number(1, _LONGEST), max(900.0, 3 * boot)),
        look_seconds=top.take("look_seconds", number(0.05, 3600), 5.0),
        cost_per_hour=top.take("cost_per_hour", number(0, 1e6), 0.0),
        cluster_config=top.take("cluster_config", text, ""),
        context=top.take("context", text, ""),
        ways=_ways(top, reading),
    )
    if isinstance(group.ways, ScalingGroup):
        if names:
            reading.mistakes.append(f"{top.value.where}: AWS names the nodes of an Auto Scaling group; leave names out")
        if group.runtime != "kubernetes":
            reading.mistakes.append(
                f"{top.value.where}: what is at work on a node of an Auto Scaling group is seen in a Kubernetes "
                "cluster alone; write runtime: kubernetes, or commands whose list tells it"
            )
    if group.runtime != "kubernetes" and (group.cluster_config or group.context):
        reading.mistakes.append(f"{top.value.where}: cluster_config and context go with runtime: kubernetes")
    _refuse_rest(top, KEYS)
    return group


def _ways(top: Entries, reading: Reading) -> Commands | ScalingGroup:
    there = [key for key in ("command", "auto_scaling_group") if top.get(key) is not None]
    if len(there) != 1:
        reading.mistakes.append(
            f"{top.value.where}: it says {'twice' if there else 'not'} how a node is started and stopped; write either "
            "command: {list: [...], start: [...], stop: [...]} or auto_scaling_group: {name: NAME}"
        )
        return ScalingGroup("")
    inner = top.inner(there[0])
    if there == ["command"]:
        listing, start, stop = (tuple(inner.need(key, texts, [])) for key in ("list", "start", "stop"))
        found = Commands(listing, start, stop, inner.take("seconds", number(0.1, 3600), 60.0))
        _refuse_rest(inner, COMMAND_KEYS)
        return found
    name = inner.need("name", said, "")
    scaling = ScalingGroup(name, inner.take("region", text, ""), inner.take("profile", text, ""))
    _refuse_rest(inner, SCALING_KEYS)
    return scaling


def _refuse_rest(entries: Entries, known: tuple[str, ...]) -> None:
    for name, value in entries.rest():
        entries.reading.mistakes.append(str(value.wrong(f"is no key{near(name, known)}; there are {', '.join(known)}")))

"""Automations as files: `automations/*.yaml` of the installation, and an operator's in VOLVOX_HOME, which go first.

A file holds what Prefect's own format holds. Only an action names its deployment (`deployment: cycle/local`) where
Prefect has an id, which no file can know.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from volvox.errors import InvalidInput
from volvox.identity import files_digest
from volvox.settings import Home

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import AutomationCore

_FOLDER = "automations"
_ACTIONS = ("actions", "actions_on_trigger", "actions_on_resolve")
_SOME_ID = "00000000-0000-0000-0000-000000000000"  # stands for a deployment's while a file is checked

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class AutomationFile:
    """What one file says, checked as far as it can be without a server.

    Attributes:
        path: The file.
        automation: The automation; the ids of its deployments are not known yet.
        deployments: Which list of actions and which place in it -> the deployment that it names.
    """

    path: Path
    automation: AutomationCore
    deployments: dict[tuple[str, int], str]


def read_automations(folder: Path, home: Home) -> list[AutomationFile]:
    """Every automation that has a file, also those that are switched off.

    Args:
        folder: Where the installation's `automations/` lies.
        home: Whose own `automations/` replaces files of the same name.

    Raises:
        InvalidInput: If a file is wrong, with file and key, or two have one name.
    """
    found = [_read(path) for _, path in sorted(_paths(folder, home).items())]
    named: dict[str, Path] = {}
    for one in found:
        if (other := named.setdefault(one.automation.name, one.path)) != one.path:
            raise InvalidInput(f"{one.path}: name: {other} has the same name, {one.automation.name!r}; change one")
    return found


def digest(home: Home) -> str:
    """Changes when an operator's file does."""
    own = home.root / _FOLDER
    return files_digest(own, own.glob("*.yaml")) if own.is_dir() else ""


async def match(client: PrefectClient, wanted: AutomationCore, off: str = "") -> str:
    """Make the server's automation of that name the same; return a sentence if it was not.

    Whether it is switched on is the operator's once it is there, unless it must rest.

    Args:
        client: Asks the server.
        wanted: The automation.
        off: Why it is to rest, whatever it or the operator says; empty: it need not.
    """
    found = next((one for one in await client.read_automations_by_name(wanted.name)), None)
    if found is None:
        wanted = wanted.model_copy(update={"enabled": wanted.enabled and not off})
        await client.create_automation(wanted)
        told = "" if wanted.enabled else ", switched off"
        return f"created automation {wanted.name!r}{told}{f': {off}' if off else ''}"
    keys = type(wanted).model_fields.keys() - {"enabled"}
    there, here = (one.model_dump(mode="json", include=set(keys)) for one in (found, wanted))
    enabled = found.enabled and not off
    if _settled(there) == _settled(here) and enabled == found.enabled:
        return ""
    await client.update_automation(found.id, wanted.model_copy(update={"enabled": enabled}))
    if enabled != found.enabled:
        return f"switched off automation {wanted.name!r}: {off}"
    return f"updated automation {wanted.name!r}"


async def match_file(client: PrefectClient, file: AutomationFile, off: str = "") -> str:
    """The same for a file, whose deployments the server must have.

    Raises:
        InvalidInput: If it names a deployment or a parameter that the server does not know, or the server refuses it.
    """
    from prefect.exceptions import PrefectHTTPStatusError

    automation = file.automation.model_copy(deep=True)
    for (actions, position), name in file.deployments.items():
        where = f"{file.path}: {actions}[{position}]"
        action = getattr(automation, actions)[position]
        action.deployment_id = await _deployment_id(client, name, getattr(action, "parameters", None), where)
    try:
        return await match(client, automation, off)
    except PrefectHTTPStatusError as error:
        if error.response.status_code >= 500:
            raise
        raise InvalidInput(f"{file.path}: the Prefect server refuses it: {error.response.text[:500]}") from error


def _paths(folder: Path, home: Home) -> dict[str, Path]:
    return {path.name: path for one in (folder, home.root) for path in (one / _FOLDER).glob("*.yaml")}


def _read(path: Path) -> AutomationFile:
    import yaml
    from prefect.events.schemas.automations import AutomationCore

    try:
        told = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    if not isinstance(told, dict):
        raise InvalidInput(f"{path}: it must hold keys and values: name, trigger, actions")
    deployments: dict[tuple[str, int], str] = {}
    checked = {**told, "trigger": _trigger(told.get("trigger"), f"{path}: trigger")}
    for key in _ACTIONS:
        actions = told.get(key, [])
        if not isinstance(actions, list):
            raise InvalidInput(f"{path}: {key}: it must be a list")
        checked[key] = []
        for position, action in enumerate(actions):
            where = f"{path}: {key}[{position}]"
            if isinstance(action, dict) and "deployment" in action:
                deployments[key, position] = str(action["deployment"])
                action = {**action, "deployment_id": _SOME_ID}  # noqa: PLW2901 - the same action, complete
                del action["deployment"]
            checked[key].append(_action(action, where))
    return AutomationFile(path, _checked(AutomationCore, checked, f"{path}"), deployments)


def _trigger(told: Any, where: str) -> BaseModel:
    from prefect.events.schemas import automations

    kinds: dict[str, type[BaseModel]] = {
        "event": automations.EventTrigger,
        "compound": automations.CompoundTrigger,
        "sequence": automations.SequenceTrigger,
        "metric": automations.MetricTrigger,
    }
    kind = _kind(told, kinds, where)
    if isinstance(told.get("triggers"), list):
        parts = enumerate(told["triggers"])
        told = {**told, "triggers": [_trigger(one, f"{where}.triggers[{position}]") for position, one in parts]}
    return _checked(kind, told, where)


def _action(told: Any, where: str) -> BaseModel:
    from prefect.events.actions import ActionTypes

    kinds = {kind.model_fields["type"].default: kind for kind in get_args(ActionTypes)}
    return _checked(_kind(told, kinds, where), told, where)


def _kind(told: Any, kinds: dict[str, type[BaseModel]], where: str) -> type[BaseModel]:
    if not isinstance(told, dict):
        raise InvalidInput(f"{where}: it must hold keys and values, `type` among them")
    if told.get("type") not in kinds:
        raise InvalidInput(f"{where}.type: {told.get('type')!r} is none of {', '.join(kinds)}")
    return kinds[told["type"]]


def _checked(kind: type[T], told: dict[str, Any], where: str) -> T:
    """`told` as Prefect's `kind`, which would not mind a misspelt key."""
    for key in told:
        if key not in kind.model_fields:
            raise InvalidInput(f"{where}: {key}: no such key{_near(str(key), kind.model_fields)}")
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{where}: {place}: {first['msg']}" if place else f"{where}: {first['msg']}") from error


async def _deployment_id(client: PrefectClient, name: str, parameters: dict[str, Any] | None, where: str) -> UUID:
    from prefect.exceptions import ObjectNotFound

    try:
        found = await client.read_deployment_by_name(name)
    except (ObjectNotFound, ValueError) as error:
        flows = {one.id: one.name for one in await client.read_flows()}
        there = [f"{flows.get(one.flow_id)}/{one.name}" for one in await client.read_deployments()]
        raise InvalidInput(f"{where}.deployment: the server has no {name!r}{_near(name, there)}") from error
    _check_parameters(found, parameters or {}, where)
    return found.id


def _check_parameters(deployment: DeploymentResponse, parameters: dict[str, Any], where: str) -> None:
    schema = deployment.parameter_openapi_schema or {}
    known = schema.get("properties", {})
    for key in parameters:
        if key not in known:
            raise InvalidInput(f"{where}.parameters.{key}: {deployment.name!r} takes no such one{_near(key, known)}")
    for key in schema.get("required", []):
        if key not in {**deployment.parameters, **parameters}:
            raise InvalidInput(f"{where}.parameters.{key}: it must be given")


def _near(word: str, words: Any) -> str:
    near = get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(map(str, words))) or 'none'}"


def _settled(value: Any) -> Any:
    """The value without what a server adds by itself: ids, and the order of sets."""
    if isinstance(value, dict):
        return {key: _settled(each) for key, each in value.items() if key != "id"}
    if isinstance(value, list):
        return sorted((_settled(each) for each in value), key=repr)
    return value

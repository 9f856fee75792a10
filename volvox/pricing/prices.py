"""Prices: those of the installation, dated and with their source, and an operator's own, which go first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from volvox.errors import InvalidInput
from volvox.functions.document import Value, read_documents, read_text
from volvox.settings import Home

SHIPPED = Path(__file__).parent / "prices.yaml"
OWN = "prices.yaml"

_Coins = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
_Text = Annotated[str, BeforeValidator(str)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LambdaPrices(_Part):
    """AWS Lambda: a second of one GB (2**30 bytes) by architecture, and a request."""

    gb_second: _Coins
    gb_second_arm64: _Coins
    request: _Coins
    source: str = ""


class FargatePrices(_Part):
    """AWS Fargate, what ECS tasks run on: an hour of one vCPU and of one GB, and the least that is counted."""

    vcpu_hour: _Coins
    gb_hour: _Coins
    least_seconds: _Coins
    source: str = ""


class Machine(_Part):
    """A kind of EC2 machine: what an hour costs, and what it has."""

    hour: _Coins
    cpu: Annotated[float, Field(gt=0)]
    memory_mb: Annotated[int, Field(gt=0)]
    gpus: Annotated[int, Field(ge=0)] = 0


class Ec2Prices(_Part):
    """Machines by name, and the least that is counted of one."""

    machines: Annotated[dict[str, Machine], Field(min_length=1)]
    least_seconds: _Coins
    source: str = ""


class OnPremisesPrices(_Part):
    """An hour of one instance on a cluster of one's own that no pool's file describes."""

    oscar_hour: _Coins


class Correction(_Part):
    """A price that the gateway's paper prints, what it comes to, and why."""

    item: str
    printed: float
    corrected: float
    why: str


class Prices(_Part):
    """What is charged.

    Attributes:
        date: Of the platforms' prices, ISO 8601.
        currency: What they are in; that of the pools' files is the operator's own.
        region: Of AWS.
        on_aws_lambda: Of AWS Lambda; `lambda` in the file.
        fargate: Of ECS tasks.
        ec2: Of the machines of AWS Batch.
        on_premises: Of an OSCAR cluster.
        corrections: What the paper prints wrongly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    date: _Text
    currency: str
    region: str
    on_aws_lambda: Annotated[LambdaPrices, Field(alias="lambda")]
    fargate: FargatePrices
    ec2: Ec2Prices
    on_premises: OnPremisesPrices
    corrections: tuple[Correction, ...] = ()


def read_prices(home: Home | None = None) -> Prices:
    """What counts in a home: the installation's prices, with its own `prices.yaml` over them key by key.

    Raises:
        InvalidInput: If a file is wrong; the message names file, line and key.
    """
    told = _document(SHIPPED)
    plain, lines = told.plain(), _lines(told)
    own = home.root / OWN if home else None
    if own is not None and own.is_file():
        theirs = _document(own)
        plain, lines = _over(plain, theirs.plain()), {**lines, **_lines(theirs)}
    try:
        return Prices.model_validate(plain)
    except ValidationError as error:
        raise InvalidInput("\n".join(_sentence(each, lines) for each in error.errors())) from error


def _document(path: Path) -> Value:
    found = read_documents(read_text(path), str(path))
    if len(found) != 1 or found[0].kind != "map":
        raise InvalidInput(f"{path}: a file of prices holds keys and values, such as lambda: {{gb_second: 0.00002}}")
    return found[0]


def _over(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}
    return above


def _lines(value: Value) -> dict[str, str]:
    """Key -> file and line, of every key below."""
    found = {value.key: value.where}
    for each in (*(entry for _, entry in value.entries), *value.items):
        found |= _lines(each)
    return found


def _sentence(error: Any, lines: Mapping[str, str]) -> str:
    parts = [str(part) for part in error["loc"]]
    where = next((lines[key] for key in (".".join(parts[:n]) for n in range(len(parts), -1, -1)) if key in lines), "")
    told = "is not known" if error["type"] == "extra_forbidden" else error["msg"][:1].lower() + error["msg"][1:]
    given = f" (it is {error['input']!r})" if isinstance(error["input"], str | int | float) else ""
    return f"{where}: {'.'.join(parts)}: {told}{given}"

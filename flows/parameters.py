"""Parameters of the cycle that have parts, so that Prefect's UI shows a form for them and refuses what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

if TYPE_CHECKING:
    from prefect import Flow

ModelName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?)?$")]
Source = Annotated[str, Field(min_length=1)]
Pool = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern="^((sha256:)?[0-9a-fA-F]{64})?$")]
TimeGap = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Processes = Annotated[int, Field(ge=1)]
Nodes = Annotated[int, Field(ge=1)]
Shares = tuple[Share, Share, Share]


class DataOptions(TypedDict, total=False):
    """How labelled data is read and split; the parameters of the data stage."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's way

    sha256: Annotated[Sha256, Field(description="What the archive must have, or empty.")]
    label_column: Annotated[
        str, Field(description="Column of `labels.csv` with the label; empty: `label`, else `class`.")
    ]
    time_column: Annotated[
        str,
        Field(
            description="Column of `labels.csv` or `groups.csv` with the time of capture; empty: found by its name; "
            "`none`: times keep nothing together."
        ),
    ]
    group_column: Annotated[
        str,
        Field(
            description="Column that says which images belong together; empty: `group` of `groups.csv`; `none`: no "
            "column does."
        ),
    ]
    time_gap_seconds: Annotated[
        TimeGap, Field(description="Images that follow each other no later than this stay in one part. Default: 60.")
    ]
    fractions: Annotated[Shares, Field(description="Shares of train, val and test. Default: 0.7, 0.15, 0.15.")]
    seed: Annotated[int, Field(description="Another seed, another split. Default: 0.")]


class StagePlaces(TypedDict, total=False):
    """The work pool of each stage: a pool's name, `here` or `auto`; what is left out is `here`, but training `auto`."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's way

    data: Annotated[Pool, Field(description="Where the data is fetched and split.")]
    training: Annotated[Pool, Field(description="Where the model learns; by default the pool that fits its needs.")]
    evaluation: Annotated[Pool, Field(description="Where the model is scored.")]
    registration: Annotated[Pool, Field(description="Where the gate decides.")]
    packaging: Annotated[Pool, Field(description="Where the serving image is built.")]
    publication: Annotated[Pool, Field(description="Where the catalogue's page is written.")]
    serving: Annotated[Pool, Field(description="Where the service is told of the version.")]
    inference: Annotated[Pool, Field(description="Where the service is asked once.")]


def form(flow: Flow[..., Any]) -> dict[str, Any]:
    """The JSON schema of a flow's parameters: what Prefect's UI shows, and what its server holds a run against.

    It takes no parameter that the flow does not have: a misspelt one would make a run that could not begin. And a block
    whose fields may all be left out takes no others, else Prefect cannot tell it from a reference to a saved one.
    """
    from prefect.utilities.callables import parameter_schema

    schema = {**parameter_schema(flow).model_dump_for_openapi(), "additionalProperties": False}
    for told in schema.get("definitions", {}).values():
        if "block_type_slug" in told:
            told["additionalProperties"] = False
    return schema

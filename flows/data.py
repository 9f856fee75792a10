"""The data stage: labelled images, from a folder or an archive, become a dataset."""

from __future__ import annotations

from prefect.runtime import flow_run

from blocks.store import ObjectStore
from flows.parameters import Sha256, Shares, Source, TimeGap
from flows.stage import stage
from tasks.data import prepare_data
from volvox.data.options import Options
from volvox.naming import model_name
from volvox.records import Dataset


def _run_name() -> str:
    parameters = flow_run.parameters  # an address may hold a secret; the name it suggests does not
    return f"data-{parameters.get('name') or model_name(str(parameters.get('source')))}"


@stage("data", _run_name)
async def data(
    source: Source,
    *,
    name: str = "",
    sha256: Sha256 = "",
    label_column: str = "",
    time_column: str = "",
    group_column: str = "",
    time_gap_seconds: TimeGap = 60.0,
    fractions: Shares = (0.7, 0.15, 0.15),
    seed: int = 0,
    store: ObjectStore | None = None,
) -> Dataset:
    """Fetch, check and split labelled images.

    Args:
        source: Folder or archive of labelled images: a path, `file://`, `https://` or `s3://`, the latter also with
            `?versionId=`.
        name: What people call the dataset; default: the name of the folder or archive.
        sha256: What the archive must have, or empty.
        label_column: Column of `labels.csv` with the label; default: `label`, else `class`.
        time_column: Column of `labels.csv` or `groups.csv` with the time of capture; default: found by its name;
            `none`: times keep nothing together.
        group_column: Column that says which images belong together; default: `group` of `groups.csv`; `none`: no
            column does.
        time_gap_seconds: Images that follow each other no later than this stay together in the split.
        fractions: Shares of train, val and test.
        seed: Another seed, another split.
        store: Where the dataset is kept.

    Raises:
        InvalidInput: If the data or the options cannot be used.
        NotFound: If there is nothing at `source`.
        Unavailable: If the server of `source` does not answer.
    """
    options = Options(label_column, time_column, group_column, time_gap_seconds, tuple(fractions), seed)
    opened = (store or ObjectStore.local()).open()
    return await prepare_data(source, store=opened, name=name, sha256=sha256, options=options)

"""What the Prefect server says of work pools, asked through a client of Prefect's that is open already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from volvox.errors import Unavailable
from volvox.pools import states
from volvox.pools.placement import PoolState

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


async def pool_states(client: PrefectClient, names: Iterable[str]) -> dict[str, PoolState]:
    """The state of each pool, in one round of requests that go out together.

    Args:
        client: An open client of the server.
        names: Pools; one that the server does not know has `exists=False`.

    Raises:
        Unavailable: If the server does not answer.
    """
    import httpx
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    async def post(path: str, body: dict[str, Any]) -> Any:
        send: Any = client.request  # its type lists the paths that it knows
        try:
            return (await send("POST", path, json=body)).json()
        except ObjectNotFound:
            return None
        except PrefectHTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    try:
        return await states.pool_states(post, names)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the Prefect server does not answer ({type(error).__name__}), so nobody knows its work pools; "
            "`volvox up` starts one"
        ) from error

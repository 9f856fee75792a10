"""The object store that stages read from and write to."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from volvox.buckets import Access
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.settings import Home
from volvox.store import Store

_BLOCK = "block:"
_ANSWERS_SECONDS = 10.0


class ObjectStore(Block):
    """
    The store that holds datasets, weights, reports, checkpoints and the records of finished stages.

    Example:
        Open the store that an operator saved:
        ```python
        from blocks.store import ObjectStore

        ObjectStore.load("BLOCK_NAME").open()
        ```
    """

    _block_type_name = "Volvox object store"
    _block_type_slug = "volvox-object-store"

    address: str = Field(
        default="",
        description="A folder, or s3://BUCKET/PREFIX; empty means the one of VOLVOX_STORE or VOLVOX_HOME.",
    )
    endpoint: str = Field(default="", description="URL of the bucket's server; empty means AWS_ENDPOINT_URL or Amazon.")
    region: str = Field(default="", description="The bucket's region; empty means AWS_REGION, or us-east-1.")
    access_key_id: str = Field(default="", description="Names the credentials; empty means AWS_ variables or a role.")
    secret_access_key: SecretStr | None = Field(default=None, description="Signs the requests.")
    session_token: SecretStr | None = Field(default=None, description="Belongs to credentials that expire.")

    @classmethod
    def local(cls) -> ObjectStore:
        """The store that VOLVOX_STORE names, an address or `block:NAME`, else that of this machine's VOLVOX_HOME.

        A block costs one request to Prefect's server; that blocks, so it may be asked for anywhere.

        Raises:
            NotFound: If there is no such block.
            Unavailable: If Prefect's server does not answer.
        """
        address = Home.current().store
        return _loaded(address.removeprefix(_BLOCK)) if address.startswith(_BLOCK) else cls(address=address)

    def open(self) -> Store:
        """The store itself; what is fetched or unpacked from it lies in this machine's cache."""
        home = Home.current()
        address = self.address or home.store
        if address.startswith(_BLOCK):
            raise InvalidInput(
                f"the object store's address is {address!r}, another block; give a folder or s3://BUCKET/PREFIX"
            )
        return Store.open(address, home.cache, self._access())

    def _access(self) -> Access:
        return Access(
            endpoint=self.endpoint,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=_told(self.secret_access_key),
            session_token=_told(self.session_token),
        )


def _told(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def _loaded(name: str) -> ObjectStore:
    """The block that an operator saved, read by a client that works inside of a running loop as outside of one.

    `Block.load` would answer with a coroutine there, raise an event, and start a server where none is named.
    """
    import httpx
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

    slug = ObjectStore.get_block_type_slug()
    asked = f"the store is the Prefect block {slug}/{name}"
    server = _prefect(asked)
    try:
        with SyncPrefectClient(
            server,
            api_key=PREFECT_API_KEY.value(),
            auth_string=PREFECT_API_AUTH_STRING.value(),
            httpx_settings={"timeout": _ANSWERS_SECONDS},
        ) as client:
            document = client.read_block_document_by_name(name, slug)
    except ObjectNotFound:
        raise NotFound(f"{asked}, which {server} does not have; save it there, or correct VOLVOX_STORE") from None
    except PrefectHTTPStatusError as error:
        raise InvalidInput(
            f"{asked}, which {server} does not give ({error.response.status_code}); see who may ask"
        ) from None
    except httpx.HTTPError as error:
        why = type(error).__name__
        raise Unavailable(f"{asked}, but Prefect does not answer at {server} ({why}); set PREFECT_API_URL") from None
    return ObjectStore.model_validate(document.data)


def _prefect(asked: str) -> str:
    """Address of the Prefect API: the one that is set, else that of this machine's stack."""
    from prefect.settings import PREFECT_API_URL

    from volvox.stack.state import addresses

    if url := PREFECT_API_URL.value():
        return str(url)
    if url := addresses(Home.current()).get("prefect"):
        return f"{url}/api"
    raise Unavailable(f"{asked}, but no Prefect server is named; set PREFECT_API_URL, or start one: volvox up")

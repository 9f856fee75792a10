"""How a bucket is reached: where, as whom, and with how much patience."""

from __future__ import annotations

import dataclasses
import functools
import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from volvox.buckets.failures import ELSEWHERE, KEYS
from volvox.errors import InvalidInput

if TYPE_CHECKING:
    from obstore.store import S3Store


@dataclass(frozen=True)
class Access:
    """How a bucket is reached; what is left empty comes from the environment's AWS variables.

    Attributes:
        endpoint: URL of the server; empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or Amazon's.
        region: The bucket's region; empty: AWS_REGION, AWS_DEFAULT_REGION, or `us-east-1`.
        path_style: Whether the bucket's name stands in the URL's path rather than before the server's name. None: at
            an endpoint of one's own, and where the bucket's name has dots.
        access_key_id: Names the credentials; with it, all three are those given here.
        secret_access_key: Signs the requests.
        session_token: Comes with credentials that expire.
        verify: Whether the server's certificate is checked.
    """

    endpoint: str = ""
    region: str = ""
    path_style: bool | None = None
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    verify: bool = True

    def completed(self) -> Access:
        """The same with what the environment says where nothing was given.

        Raises:
            InvalidInput: If a key stands without its secret, or the endpoint is no URL.
        """
        said = os.environ.get
        found = dataclasses.replace(
            self,
            endpoint=self.endpoint or said("AWS_ENDPOINT_URL_S3") or said("AWS_ENDPOINT_URL") or "",
            region=self.region or said("AWS_REGION") or said("AWS_DEFAULT_REGION") or "us-east-1",
        )
        if not found.access_key_id and (key := said("AWS_ACCESS_KEY_ID")):
            found = dataclasses.replace(
                found,
                access_key_id=key,
                secret_access_key=said("AWS_SECRET_ACCESS_KEY") or "",
                session_token=said("AWS_SESSION_TOKEN") or "",
            )
        if found.access_key_id and not found.secret_access_key:
            raise InvalidInput(f"an access key is given without its secret; set {KEYS}, {ELSEWHERE}")
        parts = urlsplit(found.endpoint)
        if "@" in parts.netloc:
            raise InvalidInput(f"the endpoint at {parts.hostname} holds a user or password; set {KEYS}, {ELSEWHERE}")
        if found.endpoint and parts.scheme not in ("http", "https"):
            raise InvalidInput(f"the endpoint is {found.endpoint!r}; give a URL that begins with https:// or http://")
        return found


@dataclass(frozen=True)
class Patience:
    """How long requests are waited for, in seconds, and how often they are tried again.

    Attributes:
        connect: Until the server takes the connection.
        request: Until the whole answer is there.
        silence: Until the next bytes of an answer come; 0: no bound but `request`.
        retries: How often what failed on the way is asked again.
    """

    connect: float
    request: float
    silence: float = 0.0
    retries: int = 2


BODIES = Patience(connect=5, request=3600, silence=60, retries=3)  # of any size, over any line
QUICK = Patience(connect=3, request=6)  # so that a store that does not answer is told within seconds
ONCE = Patience(connect=3, request=4, retries=0)  # for who has a moment to keep


def connect(bucket: str, prefix: str = "", *, access: Access | None = None, patience: Patience = BODIES) -> S3Store:
    """A client of the bucket, or of what lies below `prefix` in it; one for all who ask alike.

    Connections are encrypted unless the endpoint's own address says `http://`.
    """
    return _connect(bucket, prefix, (access or Access()).completed(), patience)


@functools.lru_cache(maxsize=64)
def _connect(bucket: str, prefix: str, access: Access, patience: Patience) -> S3Store:
    from obstore.store import S3Store

    path_style = access.path_style
    if path_style is None:
        path_style = bool(access.endpoint) or "." in bucket
    # One request for each object that is removed: not every server knows the one for many.
    config: dict[str, Any] = {"virtual_hosted_style_request": not path_style, "disable_bulk_delete": True}
    if access.endpoint:
        parts = urlsplit(access.endpoint)
        host = parts.netloc if path_style else f"{bucket}.{parts.netloc}"
        config["endpoint"] = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    options: dict[str, Any] = {
        "allow_http": access.endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=patience.connect),
        "timeout": timedelta(seconds=patience.request),
    }
    if not access.verify:
        options["allow_invalid_certificates"] = True
    if patience.silence:
        options["read_timeout"] = timedelta(seconds=patience.silence)
    credentials: dict[str, Any] = {}
    if access.access_key_id:
        # As configuration they would be mixed with a session token that the environment holds for other ones.
        told = {
            "access_key_id": access.access_key_id,
            "secret_access_key": access.secret_access_key,
            "token": access.session_token or None,
            "expires_at": None,
        }
        credentials["credential_provider"] = lambda: told
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=access.region,
        config=config,  # pyright: ignore[reportArgumentType]
        client_options=options,  # pyright: ignore[reportArgumentType]
        retry_config={
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=min(2 * patience.request, 150)),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
        },
        **credentials,
    )

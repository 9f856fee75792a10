"""An account of AWS as functions use it: clients, names, tags, and its errors in sentences."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of

FUNCTION, OWNER, DIGEST = "volvox:function", "volvox:owner", "volvox:digest"
_LONGEST_NAME = 56  # AWS takes 64; what belongs to a function has a suffix
_MISSING = re.compile(r"NotFound|NoSuch|NonExistent|DoesNotExist|\.NonExistentQueue")
_DENIED = re.compile(r"AccessDenied|UnauthorizedOperation|AuthorizationError|NotAuthorized")
_AGAIN = re.compile(
    r"Throttl|TooManyRequests|RequestLimitExceeded|ServiceUnavailable|ServiceException|InternalError|InternalFailure"
    r"|ServerException|ResourceConflict|ResourceInUse|OperationAborted|Unavailable"
)
_KEYS = re.compile(r"InvalidClientTokenId|ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch|UnrecognizedClient")


def section(function: Function, *names: str) -> dict[str, Any]:
    """A part of the function's settings, `section(function, "lambda", "vpc")`; empty if it says nothing of it."""
    found: Any = function.settings
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def stated(function: Function, name: str, *places: str) -> Any:
    """A setting: of the first of `places` that says it (`lambda`, `batch`), else of the settings themselves."""
    for place in places:
        if (value := section(function, place).get(name)) not in (None, ""):
            return value
    value = function.settings.get(name)
    return None if value == "" else value


class Account:
    """Clients of one account in one region."""

    def __init__(self, region: str = "", profile: str = "") -> None:
        """Use the environment's account; nothing is asked yet.

        Args:
            region: Empty: the environment's or the profile's.
            profile: Of `~/.aws`; empty: the environment's credentials.
        """
        self._region, self._profile = region, profile
        self._session: Any = None
        self._clients: dict[tuple[str, float], Any] = {}
        self._lock = threading.Lock()
        self._id = ""

    @classmethod
    def of(cls, function: Function, *places: str) -> Account:
        """The account and region that a function's settings name."""
        region = stated(function, "region", *places) or ""
        return cls(str(region), str(stated(function, "boto_profile", *places) or stated(function, "profile") or ""))

    def client(self, service: str, *, seconds: float = 60.0) -> Any:
        """A client; one for all who ask alike.

        Args:
            service: Its name, as boto3 has it.
            seconds: How long an answer is waited for. With more than a minute a request is never sent twice: what
                takes so long does something.

        Raises:
            InvalidInput: If boto3 is not installed, or the profile or region is not there.
        """
        key = (service, seconds)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._made(service, seconds)
            return self._clients[key]

    def _made(self, service: str, seconds: float) -> Any:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise InvalidInput("functions on AWS need boto3: pip install 'volvox[cycle]'") from None
        attempts = {"mode": "standard", "total_max_attempts": 5 if seconds <= 60 else 1}
        config = Config(connect_timeout=5, read_timeout=seconds, retries=attempts, max_pool_connections=64)
        try:
            if self._session is None:
                self._session = boto3.Session(profile_name=self._profile or None, region_name=self._region or None)
            return self._session.client(service, config=config)
        except BotoCoreError as error:
            raise InvalidInput(f"AWS cannot be asked: {error}; set AWS_DEFAULT_REGION or settings.region") from error

    @property
    def region(self) -> str:
        """The region."""
        return str(self.client("sts").meta.region_name)

    @property
    def partition(self) -> str:
        """`aws`, or that of China or a government."""
        return str(self.client("sts").meta.partition)

    @property
    def id(self) -> str:
        """The account's number.

        Raises:
            Unavailable: If AWS does not answer.
            InvalidInput: If there are no credentials, or they do not count.
        """
        if not self._id:
            with told("find out whose credentials these are"):
                self._id = self.client("sts").get_caller_identity()["Account"]
        return self._id

    @property
    def is_amazon(self) -> bool:
        """Whether it is Amazon's own, as opposed to a server that speaks as it does."""
        return not any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LAMBDA"))

    def arn(self, service: str, rest: str, *, region: bool = True) -> str:
        """The ARN of a thing of this account."""
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.id}:{rest}"


def name_of(function: str, suffix: str = "") -> str:
    """What a thing of a function is called on AWS: letters, digits, `-` and `_`, at most 64."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", function)
    if plain != function or len(plain) > _LONGEST_NAME - 7:
        plain = f"{plain[: _LONGEST_NAME - 16]}-{digest_of(function)[:8]}"
    return f"volvox-{plain}" + (f"-{suffix}" if suffix else "")


def owner_of(folder: Path) -> str:
    """What everything carries that a runtime whose folder this is has made."""
    return digest_of(str(folder.absolute()))[:16]


def tags(function: str, owner: str, digest: str = "") -> dict[str, str]:
    """What a thing of ours carries."""
    return {FUNCTION: function, OWNER: owner, **({DIGEST: digest} if digest else {})}


def code_of(error: Exception) -> str:
    """AWS' own name of an error, or empty."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def message_of(error: Exception) -> str:
    """What AWS says of an error."""
    response = getattr(error, "response", None)
    said = response.get("Error", {}).get("Message", "") if isinstance(response, dict) else ""
    return str(said or error)


def is_missing(error: Exception) -> bool:
    """Whether an error says that the thing is not there."""
    status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return bool(_MISSING.search(code_of(error))) or (status == 404 and not _DENIED.search(code_of(error)))


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """AWS' errors as ours: `told("make the function")`.

    Raises:
        Unavailable: If asking again may help.
        InvalidInput: If AWS refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as error:
        raise InvalidInput(
            f"there are no credentials of AWS to {doing} with; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE"
        ) from error
    except ClientError as error:
        raise _ours(doing, error) from error
    except EndpointConnectionError as error:
        raise Unavailable(
            f"AWS did not answer when asked to {doing} ({error}); look whether the network leads there, and whether "
            "the region in that address is one of AWS (AWS_DEFAULT_REGION, or settings.region)"
        ) from error
    except BotoCoreError as error:
        raise Unavailable(f"AWS did not answer when asked to {doing} ({type(error).__name__}: {error})") from error


def _ours(doing: str, error: Exception) -> VolvoxError:
    code, said = code_of(error), message_of(error)
    if _DENIED.search(code):
        action = re.search(r"perform: ([A-Za-z0-9]+:[A-Za-z0-9]+)", said)
        return InvalidInput(
            f"AWS does not allow these credentials to {doing}"
            + (f"; allow {action[1]}" if action else f" ({said[:200]})")
        )
    if _KEYS.search(code):
        region = " A region that is not enabled for the account says so too." if "Unrecognized" in code else ""
        return InvalidInput(f"AWS does not take these credentials to {doing} ({code}); set others.{region}")
    if _AGAIN.search(code):
        return Unavailable(f"AWS cannot {doing} now ({code}: {said[:200]})")
    return InvalidInput(f"AWS refuses to {doing}: {said[:400] or code}")


@contextlib.contextmanager
def unless_missing() -> Iterator[None]:
    """Pass over that a thing is not there; other errors come through."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if not is_missing(error):
            raise

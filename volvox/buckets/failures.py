"""What goes wrong with a bucket, in sentences that say what to do and hold no secret."""

from __future__ import annotations

import re

from volvox.errors import AccessRefused, InvalidInput, Unavailable, VolvoxError

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
ELSEWHERE = "or in the Prefect block that VOLVOX_STORE names"
_OF_A_PLACE = "or in the credentials of the place"


class Unsupported(VolvoxError):
    """The server does not offer what was asked for."""


class NoBucket(InvalidInput):
    """There is no such bucket."""


def no_bucket(address: str, server: str) -> NoBucket:
    """The error for a bucket that is not there."""
    name = address.removeprefix("s3://").partition("/")[0]
    return NoBucket(f"the bucket {name!r} does not exist at {server}; create it, or correct the address {address}")


def explained(failed: str, address: str, server: str, region: str, called: str = "store") -> VolvoxError:
    """The error for what the library said of a failed request; nothing of the server's answer but its code is quoted.

    Args:
        failed: The library's message, with the answer in it.
        address: The place that was asked, `s3://bucket/prefix`.
        server: Where it was asked, for people.
        region: The region it was sought in.
        called: What it is to its users: the `store`, or a `place`.
    """
    code = code_in(failed) or ""
    bucket = address.removeprefix("s3://").partition("/")[0]
    here = f"the {called} at {address}"
    elsewhere = ELSEWHERE if called == "store" else _OF_A_PLACE
    if code == "NoSuchBucket":
        return no_bucket(address, server)
    if code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired"):
        return AccessRefused(
            f"the credentials for {here} have expired ({code}); set new ones in {KEYS} and AWS_SESSION_TOKEN, "
            f"{elsewhere}"
        )
    if code == "InvalidAccessKeyId":
        return AccessRefused(f"{server} does not know the access key for {here}; correct {KEYS}, {elsewhere}")
    if code == "SignatureDoesNotMatch":
        return AccessRefused(f"the secret key for {here} is not the access key's; correct {KEYS}, {elsewhere}")
    if code == "RequestTimeTooSkewed":
        return AccessRefused(f"the clock of this machine differs too much from that of {server}; set it right")
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed") or "redirect without LOCATION" in failed:
        return AccessRefused(f"the bucket {bucket!r} is not in region {region}; set its own in AWS_REGION, {elsewhere}")
    if "169.254.169.254" in failed or "169.254.170.2" in failed:  # where machines of Amazon find their role
        return AccessRefused(f"there are no credentials for {here}; set {KEYS}, {elsewhere}")
    if code in ("NotImplemented", "MethodNotAllowed"):
        return Unsupported(f"{server} does not offer what {here} asked for ({code})")
    if code in ("AccessDenied", "AllAccessDisabled") or re.search(r"\b(401|403)\b", failed.partition("\n")[0]):
        return AccessRefused(
            f"the credentials for {here} are refused ({code or 'forbidden'}); they must be allowed to list the "
            "bucket and to get, put and delete its objects"
        )
    return Unavailable(
        f"{here} does not answer at {server} ({reason(failed)}); see that it runs and can be reached "
        "from here, then run the same command again"
    )


def code_in(failed: str) -> str | None:
    """The code of the server's own answer, if it had a body."""
    found = re.search(r"<Code>\s*(\w+)\s*</Code>", failed)
    return found[1] if found else None


def reason(failed: str) -> str:
    """The few words of a failed request's message that may be shown: its code, or what broke on the way."""
    if code := code_in(failed):
        return code
    for words, told in (
        ("ConnectionRefused", "connection refused"),
        ("dns error", "no such host"),
        ("TimedOut", "no answer in time"),
        ("timed out", "no answer in time"),
        ("NetworkUnreachable", "network unreachable"),
        ("ertificate", "its certificate is not trusted"),
    ):
        if words in failed:
            return told
    first = failed.strip().partition("\n")[0].rpartition(" - ")[2]
    return re.sub(r"<[^>]*>.*", "", first).strip()[:120] or "unknown error"

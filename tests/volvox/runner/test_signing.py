"""Requests are signed as Amazon's own client signs them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from volvox.runner.signing import UNSIGNED, KeyRing, Keys, NoKeys, found_keys, quoted, signed

AT = datetime(2026, 11, 26, 12, 30, 5, tzinfo=UTC)
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a-token")


@pytest.mark.parametrize("key", ["plain.png", "in/ann/ü b+%2F'(1)*~!.png", "a//b", "sub/😀"])
@pytest.mark.parametrize("query", ["", "versionId=a%2Fb.c"])
@pytest.mark.parametrize("token", ["", "a-token"])
def test_a_signature_is_the_one_that_botocore_makes(key: str, query: str, token: str, monkeypatch) -> None:
    from botocore import auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    monkeypatch.setattr(auth, "get_current_datetime", lambda: AT)
    url = f"https://bucket.s3.eu-west-1.amazonaws.com/{quoted(key)}" + (f"?{query}" if query else "")
    theirs = AWSRequest("PUT", url, headers={"content-type": "text/plain; a=b", "if-none-match": "*"}, data=b"x")
    signer = auth.S3SigV4Auth(Credentials(KEYS.key, KEYS.secret, token or None), "s3", "eu-west-1")
    monkeypatch.setattr(signer, "_should_sha256_sign_payload", lambda request: False)
    signer.add_auth(theirs)
    keys = Keys(KEYS.key, KEYS.secret, token)
    ours = signed(
        "PUT", url, {"content-type": "text/plain; a=b", "if-none-match": "*"}, keys, "eu-west-1", payload=UNSIGNED,
        now=AT,
    )  # fmt: skip
    assert ours["x-amz-date"] == theirs.headers["X-Amz-Date"] == "20261126T123005Z"
    assert ours["authorization"] == theirs.headers["Authorization"]


def test_keys_come_from_the_environment_else_from_the_role_of_the_task(monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoKeys, match="no keys of AWS"):
        found_keys()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")
    assert found_keys() == Keys("one", "two")
    assert "two" not in repr(found_keys())


def test_keys_of_a_role_are_asked_for_again_before_they_expire(monkeypatch) -> None:
    asked = []

    def found() -> Keys:
        asked.append(1)
        return Keys("k", "s", "t", expires=(0.0, 1e12)[len(asked) - 1] or 1.0)

    monkeypatch.setattr("volvox.runner.signing.found_keys", found)
    ring = KeyRing()
    assert ring.keys().expires == 1.0
    assert ring.keys().expires == ring.keys().expires == 1e12
    assert len(asked) == 2

from __future__ import annotations

from typing import Any

import pytest

from volvox.errors import InvalidInput
from volvox.places import open_place
from volvox.places.addresses import parsed
from volvox.places.credentials import access, login
from volvox.places.s3 import S3Place


class Secret:
    def get_secret_value(self) -> str:
        return "very-secret"


def test_a_bucket_takes_them_under_the_names_of_others() -> None:
    for given in (
        {"access_key": "a", "secret_key": "s", "region": "r", "endpoint": "https://e", "verify": "false"},
        {"aws_access_key_id": "a", "aws_secret_access_key": "s", "region": "r", "endpoint_url": "e", "verify": False},
        {"AccessKey": "a", "SecretKey": "s", "Region": "r", "Endpoint": "e", "ssl_verify": "no"},
    ):
        found = access(parsed("s3://bucket"), given)
        assert (found.access_key_id, found.secret_access_key, found.region) == ("a", "s", "r")
        assert (found.endpoint.removeprefix("https://"), found.verify) == ("e", False)
    assert access(parsed("s3+http://127.0.0.1:9/bucket"), {"endpoint": "https://e"}).endpoint == "http://127.0.0.1:9"


def test_a_bucket_without_them_takes_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    place = open_place("s3://bucket/in")
    assert isinstance(place, S3Place)
    assert place.bucket.access.secret_access_key == "very-secret"
    assert "very-secret" not in repr(place) + repr(place.bucket.access)


def test_a_server_takes_a_user_or_a_token_and_secrets_of_blocks() -> None:
    found = login(parsed("webdavs://host/in"), {"hostname": "host", "login": "alice", "password": Secret()})
    assert (found.user, found.password) == ("alice", "very-secret")
    assert "very-secret" not in repr(found)
    assert "alice" not in repr(found)
    told = login(parsed("onedata://host/space"), {"oneprovider_host": "https://host", "token": "t", "space": "space"})
    assert told.token == "t"


def test_a_token_of_the_environment_goes_to_its_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECLIENT_ACCESS_TOKEN", "very-secret")
    monkeypatch.setenv("ONECLIENT_PROVIDER_HOST", "host")
    assert login(parsed("onedata://host/space"), {}).token == "very-secret"
    with pytest.raises(InvalidInput, match="there is no access token for onedata://evil/space") as told:
        login(parsed("onedata://evil/space"), {})
    assert "very-secret" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "given", "what"),
    [
        ("s3://bucket", {"access_key": "hidden"}, "alone; give both"),
        ("s3://bucket", {"secret_key": "hidden"}, "alone; give both"),
        ("s3://bucket", {"token": "hidden"}, "hold 'token', which is of no use there; there may be: access_key"),
        ("s3://bucket", {"access_key": 1, "secret_key": "hidden"}, "is no text; put it in quotes"),
        ("s3://bucket", {"verify": "hmm"}, "give true or false"),
        ("s3://bucket", {"endpoint": "https://u:hidden@e", "access_key": "a", "secret_key": "s"}, "user or password"),
        ("webdavs://host", {"user": "hidden"}, "alone; give both"),
        ("webdavs://host", {"host": "other", "token": "hidden"}, "are those of other; give those of host"),
        ("webdav://host/in", {"token": "hidden"}, "could be read on the way; use webdavs://"),
        ("onedata://host/space", {"space": "other", "token": "hidden"}, "are those of the space 'other'"),
        ("onedata://host/space", {}, "no access token"),
        ("/data", {"token": "hidden"}, "of no use there; there may be: none"),
    ],
)
def test_what_is_wrong_with_them_is_told_without_them(url: str, given: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as told:
        open_place(url, given)
    assert "hidden" not in str(told.value)

"""Archives on a web server."""

import pytest

from volvox.data.http import WebObject
from volvox.errors import InvalidInput, NotFound, Unavailable


def test_the_head_of_an_answer_tells_size_and_validator(web) -> None:
    web.files["/a.zip"] = b"12345"
    facts = WebObject(f"{web.address}/a.zip").facts()
    assert facts.size == 5
    assert facts.validator.startswith('"')


@pytest.mark.parametrize(
    "address", ["http://example.org/a.zip", "http://10.0.0.1/a.zip", "http://localhost.evil.org/a"]
)
def test_unencrypted_addresses_of_other_machines_are_refused(address) -> None:
    with pytest.raises(InvalidInput, match="is not encrypted"):
        WebObject(address)


def test_a_server_that_sends_elsewhere_is_followed_but_not_to_other_machines_unencrypted(web) -> None:
    web.files["/a.zip"] = b"12345"
    web.redirects = {
        "/old": "/a.zip",
        "/out": "http://example.org/a.zip",
        "/file": "file:///etc/passwd",
        "/loop": "/loop",
    }
    assert WebObject(f"{web.address}/old").facts().size == 5
    with pytest.raises(InvalidInput, match=r"http://example.org/a.zip is not encrypted"):
        WebObject(f"{web.address}/out").facts()
    with pytest.raises(InvalidInput, match="is not a web address"):
        WebObject(f"{web.address}/file").facts()
    with pytest.raises(InvalidInput, match="more than 5 redirects"):
        WebObject(f"{web.address}/loop").facts()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (410, NotFound),
        (403, InvalidInput),
        (401, InvalidInput),
        (429, Unavailable),
        (503, Unavailable),
    ],
)
def test_what_the_server_says_becomes_the_error_it_means(web, status, kind) -> None:
    web.files["/a.zip"], web.status["/a.zip"] = b"", status
    with pytest.raises(kind, match=rf"the server says {status}"):
        WebObject(f"{web.address}/a.zip").facts()


def test_secrets_of_an_address_are_never_shown(web) -> None:
    address = web.address.replace("http://", "http://me:secret@") + "/a.zip?signature=secret"
    remote = WebObject(address)
    assert remote.shown == f"{web.address}/a.zip"
    with pytest.raises(NotFound) as caught:
        remote.facts()
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable(web) -> None:
    web.server.socket.close()
    with pytest.raises(Unavailable, match="does not answer"):
        WebObject("http://127.0.0.1:9/a.zip").facts()

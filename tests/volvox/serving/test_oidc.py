"""Access tokens: what is accepted, and everything that is not."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from tests.volvox.serving.issuing import AUDIENCE, ISSUER, Issuer
from volvox.errors import InvalidInput, Unavailable
from volvox.serving.oidc import KeysNeeded, Provider, Unaccepted


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    return Issuer().keys


@pytest.fixture
def issuer(keys: dict[str, Any]) -> Issuer:
    made = Issuer.__new__(Issuer)
    made.keys, made.asked, made.says, made.answers = dict(keys), 0, ISSUER, True
    return made


@pytest.fixture
def provider(issuer: Issuer) -> Provider:
    """With the issuer's keys fetched a moment ago."""
    made = Provider(ISSUER, AUDIENCE, issuer.transport)
    asyncio.run(made.refresh())
    return made


def later(provider: Provider, seconds: float) -> None:
    provider._tried -= seconds
    provider._fetched -= seconds


@pytest.mark.parametrize(("kid", "algorithm"), [("rsa-1", "RS256"), ("rsa-1", "PS256"), ("ec-1", "ES256")])
@pytest.mark.parametrize("audience", [AUDIENCE, ["other", AUDIENCE]])
def test_a_good_token_is_accepted(provider, issuer, kid: str, algorithm: str, audience: Any) -> None:
    token = issuer.token(kid, algorithm, aud=audience)
    assert provider.claims(token)["sub"] == "alice"
    assert provider.claims(token)["sub"] == "alice"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"iss": "https://other.test"}, "is of 'https://other.test'"),
        ({"iss": ISSUER + "/"}, "is of"),
        ({"iss": None}, "is of None"),
        ({"aud": "other"}, "meant for 'other'"),
        ({"aud": None}, "meant for None"),
        ({"aud": []}, "meant for"),
        ({"aud": AUDIENCE + "x"}, "meant for"),
        ({"exp": None}, "until when"),
        ({"exp": "2099"}, "until when"),
        ({"exp": True}, "until when"),
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"nbf": int(time.time()) + 86_400}, "not good yet"),
        ({"nbf": "soon"}, "until when"),
    ],
)
def test_a_token_with_other_claims_is_not(provider, issuer, changed: dict, message: str) -> None:
    with pytest.raises(Unaccepted, match=message):
        provider.claims(issuer.token(**changed))


def _b64(told: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()


def test_nothing_but_public_key_signatures_is_accepted(provider, issuer) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
    with pytest.raises(Unaccepted, match="'none'"):
        provider.claims(f"{_b64({'alg': 'none', 'kid': 'rsa-1'})}.{_b64(claims)}.")
    signed = f"{_b64({'alg': 'HS256', 'kid': 'rsa-1'})}.{_b64(claims)}"
    made = hmac.digest(issuer.keys["rsa-1"].as_pem(private=False), signed.encode(), "sha256")
    with pytest.raises(Unaccepted, match="'HS256'"):
        provider.claims(f"{signed}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}")
    for algorithm in ("RS512", None, ["RS256"], {"a": 1}):
        with pytest.raises(Unaccepted, match="signed with"):
            provider.claims(f"{_b64({'alg': algorithm})}.{_b64(claims)}.AAAA")


def test_a_key_of_another_kind_or_of_somebody_else_is_not_accepted(provider, issuer) -> None:
    token = issuer.token("ec-1", "ES256")
    _, claims, signature = token.split(".")
    with pytest.raises(Unaccepted, match="not one for RS256"):
        provider.claims(f"{_b64({'alg': 'RS256', 'kid': 'ec-1'})}.{claims}.{signature}")
    issuer.keys["rsa-1"] = RSAKey.generate_key(2048)
    with pytest.raises(Unaccepted, match="signature is not good"):
        provider.claims(issuer.token())


def test_a_token_that_was_changed_is_not_accepted_even_after_the_good_one(provider, issuer) -> None:
    token = issuer.token()
    provider.claims(token)
    header, _, signature = token.split(".")
    forged = {"iss": ISSUER, "aud": AUDIENCE, "sub": "admin", "exp": int(time.time()) + 600}
    with pytest.raises(Unaccepted, match="signature is not good"):
        provider.claims(f"{header}.{_b64(forged)}.{signature}")


@pytest.mark.parametrize("token", ["x", "a.b.c", "..", "e30.e30", "W10.e30.e30", "x" * 20_000, "ä.b.c", "bnVsbA.a.b"])
def test_what_is_no_token_is_refused(provider, token: str) -> None:
    with pytest.raises(Unaccepted):
        provider.claims(token)


def test_a_remembered_token_is_forgotten_when_it_expires(provider, issuer, monkeypatch) -> None:
    token = issuer.token()
    provider.claims(token)
    now = time.time()
    monkeypatch.setattr("volvox.serving.oidc.time.time", lambda: now + 700)
    with pytest.raises(Unaccepted, match="expired"):
        provider.claims(token)


def test_a_new_key_is_fetched_once_it_is_seen_but_at_most_once_a_minute(provider, issuer) -> None:
    assert issuer.asked == 1
    issuer.rotate("rsa-2", issuer.keys["rsa-1"])
    token = issuer.token("rsa-2")
    with pytest.raises(Unaccepted, match="does not publish"):  # they were fetched a moment ago
        provider.claims(token)
    asyncio.run(provider.refresh())
    assert issuer.asked == 1
    later(provider, 61)
    with pytest.raises(KeysNeeded):
        provider.claims(token)
    asyncio.run(provider.refresh())
    assert issuer.asked == 2
    assert provider.claims(token)["sub"] == "alice"


def test_many_requests_at_once_fetch_the_keys_once(issuer) -> None:
    provider = Provider(ISSUER, AUDIENCE, issuer.transport)

    async def ask() -> None:
        await asyncio.gather(*(provider.refresh() for _ in range(20)))

    asyncio.run(ask())
    assert issuer.asked == 1


def test_a_key_that_is_withdrawn_makes_even_remembered_tokens_bad(provider, issuer) -> None:
    token = issuer.token()
    provider.claims(token)
    del issuer.keys["rsa-1"]
    later(provider, 3601)
    with pytest.raises(KeysNeeded):
        provider.claims(token)
    asyncio.run(provider.refresh())
    with pytest.raises(Unaccepted, match="does not publish"):
        provider.claims(token)


def test_a_provider_that_does_not_answer_leaves_the_known_keys(provider, issuer, caplog) -> None:
    issuer.answers = False
    later(provider, 3601)
    asyncio.run(provider.refresh())
    assert "cannot be fetched: ConnectError" in caplog.text
    assert provider.claims(issuer.token())["sub"] == "alice"


def test_without_keys_no_token_is_judged(issuer) -> None:
    issuer.answers = False
    provider = Provider(ISSUER, AUDIENCE, issuer.transport)
    with pytest.raises(KeysNeeded):
        provider.claims(issuer.token())
    asyncio.run(provider.refresh())
    with pytest.raises(Unavailable, match="gives no keys"):
        provider.claims(issuer.token())


def test_a_provider_that_says_it_is_another_gives_no_keys(issuer, caplog) -> None:
    issuer.says = "https://evil.test"
    provider = Provider(ISSUER, AUDIENCE, issuer.transport)
    asyncio.run(provider.refresh())
    assert "evil.test" in caplog.text
    with pytest.raises(Unavailable):
        provider.claims(issuer.token())


def test_a_token_without_a_key_id_is_accepted_where_one_key_fits(provider, issuer) -> None:
    assert provider.claims(issuer.token(header={"kid": None}))["sub"] == "alice"
    issuer.rotate("rsa-2", RSAKey.generate_key(2048))
    later(provider, 61)
    asyncio.run(provider.refresh())
    with pytest.raises(Unaccepted, match="key None"):
        provider.claims(issuer.token(header={"kid": None}, sub="bob"))


@pytest.mark.parametrize("address", ["http://issuer.test", "issuer.test", "ftp://issuer.test", ""])
def test_keys_come_over_https_or_from_this_machine(address: str) -> None:
    with pytest.raises(InvalidInput, match="https://"):
        Provider(address, AUDIENCE)
    assert Provider("http://127.0.0.1:1", AUDIENCE).issuer == "http://127.0.0.1:1"


def test_keys_of_other_curves_are_left_out(issuer) -> None:
    issuer.keys = {"p384": ECKey.generate_key("P-384"), "ec-1": issuer.keys["ec-1"]}
    provider = Provider(ISSUER, AUDIENCE, issuer.transport)
    asyncio.run(provider.refresh())
    assert list(provider._keys) == ["ec-1"]

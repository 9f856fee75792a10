"""Which cluster a function is in, and how it is asked."""

from __future__ import annotations

from typing import Any

import pytest

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes.oscar_cluster.access import Cluster


def function(settings: dict[str, Any], **providers: str) -> Function:
    return Function(name="f", image="i", script="echo", settings=settings, providers=providers)


def described(**clusters: dict[str, Any]) -> dict[str, Any]:
    return {"storage_providers": {f"clusters.{name}": told for name, told in clusters.items()}}


def test_without_a_word_it_is_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="VOLVOX_OSCAR_ENDPOINT is not set"):
        Cluster.of(function({})).access()
    for name, value in {"ENDPOINT": "https://o.example.org/", "TOKEN": "t", "VERIFY": "no"}.items():
        monkeypatch.setenv(f"VOLVOX_OSCAR_{name}", value)
    access = Cluster.of(function({})).access()
    assert (access.endpoint, access.bearer(), access.verify) == ("https://o.example.org", "t", False)
    assert (
        Cluster.of(function({"cluster_id": "oscar-cluster"})) == Cluster()
    )  # as a file of OSCAR without clusters has it


def test_one_that_is_described_is_meant_and_of_several_it_is_said_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLVOX_OSCAR_ENDPOINT", "https://o.example.org")
    assert Cluster.of(function(described(a={"endpoint": "https://a"}))).name == "a"
    two = described(a={"endpoint": "https://a"}, b={"endpoint": "https://b"})
    assert Cluster.of(function({**two, "cluster": "b"})).name == "b"
    with pytest.raises(InvalidInput, match="describes clusters a, b; say which"):
        Cluster.of(function(two))
    with pytest.raises(InvalidInput, match="names the OSCAR cluster 'c', which is not described"):
        Cluster.of(function({**two, "cluster": "c"}))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, r"clusters\.a says no endpoint"),
        ({"endpoint": "a.example.org", "token_file": "/t"}, "is no address: write https://HOST"),
        ({"endpoint": "https://u:p@a", "token_file": "/t"}, "no credentials in it"),
        ({"endpoint": "https://a"}, "is asked in one way: give auth_user and auth_password, or an oidc_token"),
        ({"endpoint": "https://a", "token_file": "/t", "token_env": "HERE"}, "is asked in one way: give only"),
        ({"endpoint": "https://a", "token_env": "NOT_HERE"}, "variable NOT_HERE, which is not set"),
    ],
)
def test_what_is_missing_or_wrong_is_told(told: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "t")
    with pytest.raises(InvalidInput, match=said):
        Cluster.of(function(described(a=told))).access()


def test_credentials_of_a_block_and_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    there = function(described(a={"endpoint": "https://a"}), **{"clusters.a": "block:site-a"})
    access = Cluster.of(there).access(lambda name: {"oidc_token": f"of-{name}"})
    assert (access.endpoint, access.bearer()) == ("https://a", "of-site-a")
    with pytest.raises(InvalidInput, match="needs auth_user and auth_password together"):
        Cluster.of(there).access(lambda _: {"auth_user": "u"})
    with pytest.raises(InvalidInput, match="hold what no header can"):
        Cluster.of(there).access(lambda _: {"oidc_token": "a\nb"})
    monkeypatch.setenv("HERE", "t")
    assert Cluster.of(function(described(a={"endpoint": "https://a", "token_env": "HERE"}))).access().bearer() == "t"

from __future__ import annotations

import pytest

from volvox.infrastructure.jobs import ended_badly, image_trouble, out_of_memory


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("manifest for localhost:5000/x:1 not found: manifest unknown", "image_not_found"),
        ("ErrImagePull: rpc error: Error response from daemon: manifest unknown: manifest unknown", "image_not_found"),
        ("pull access denied for x, repository does not exist or may require 'docker login'", "image_not_found"),
        ("No such image: x:1", "image_not_found"),
        ("InvalidImageName: couldn't parse image reference", "image_not_found"),
        ("Head https://r/v2/x/manifests/1: unauthorized: authentication required", "image_refused"),
        ("403 Forbidden", "image_refused"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "image_refused"),
    ],
)
def test_what_registries_say_is_understood(said: str, reason: str) -> None:
    told, message = image_trouble("x:1", said)
    assert told == reason
    assert message.startswith("image x:1 ")


def test_a_registry_that_is_down_is_not_called_a_lack_of_credentials() -> None:
    assert "credentials" not in image_trouble("x:1", "connection refused")[1]
    assert "credentials" in image_trouble("x:1", "unauthorized")[1]


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("docker", "`docker login r.example.org`"), ("kubernetes", "image_pull_secrets"), ("ecs", "execution_role_arn")],
)
def test_who_is_refused_learns_which_credentials_that_engine_wants(kind: str, remedy: str) -> None:
    assert remedy in image_trouble("r.example.org/x:1", "401 Unauthorized", kind)[1]
    hidden = "denied: repository r.example.org/x does not exist or may require authorization"
    assert remedy in image_trouble("r.example.org/x:1", hidden, kind)[1]
    assert remedy not in image_trouble("r.example.org/x:1", "manifest unknown", kind)[1]


def test_the_registry_of_docker_itself_needs_no_name() -> None:
    assert "`docker login`" in image_trouble("someone/x:1", "403 Forbidden")[1]


def test_sentences_say_what_was_given_and_what_to_do() -> None:
    assert out_of_memory(512 * 2**20) == (
        "out of memory: the container had 512 MB; give the pool or the stage more (memory_mb)"
    )
    assert "machine" in out_of_memory(0)
    assert ended_badly(137, "pod").startswith("the pod was ended by SIGKILL (exit code 137)")
    assert ended_badly(1, "task", "a\n\nImportError: x\n").endswith("; it printed last: a / ImportError: x")
    assert "from outside" in ended_badly(None, "task")
    assert ended_badly(200, "pod").startswith("the pod ended with exit code 200")

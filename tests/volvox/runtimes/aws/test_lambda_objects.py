"""A Lambda function is made step by step, and every step can be done again."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from tests.volvox.runtimes.aws.fake_lambda import FakeLambda, Killed
from tests.volvox.runtimes.aws.fakes import FakeAccount
from volvox.errors import InvalidInput, ModuleFailed
from volvox.functions.definition import Function
from volvox.runtimes.aws.lambda_objects import ALIAS, LambdaObjects, Wanted
from volvox.runtimes.aws.limits import Size

NAME = "volvox-f"
FUNCTION = Function(name="f", model="m")
ONE = Wanted(FUNCTION, "v1", "content-1", "arn:role", Size(512, 40, 512), "x86_64")
TWO = replace(ONE, version="v2", content="content-2", size=Size(1024, 60, 512))


def fine(version: str) -> None:
    """What is proven of a version that answers."""


def objects(fake: FakeLambda) -> LambdaObjects:
    return LambdaObjects(FakeAccount(**{"lambda": fake}), "us")


def made(fake: FakeLambda, wanted: Wanted, prove=fine) -> str:
    return objects(fake).ensure(wanted, lambda: f"registry/{wanted.content}", prove)


def answers(fake: FakeLambda) -> tuple[str, int]:
    """Image and memory of what calls go to."""
    found = fake.functions[NAME]
    live = found["versions"][found["aliases"][ALIAS]["FunctionVersion"]]
    return live["Code"]["ImageUri"], live["Configuration"]["MemorySize"]


def test_deployed_twice_nothing_is_written_and_no_image_is_asked_for() -> None:
    fake = FakeLambda()
    version = made(fake, ONE)
    before = list(fake.writes)

    def image() -> str:
        raise AssertionError("there is nothing to be done")

    assert objects(fake).ensure(ONE, image, lambda _: image()) == version
    assert fake.writes == before == ["create_function", "publish_version", "create_alias"]


def test_a_new_version_takes_over_when_it_is_proven_and_the_one_before_stays() -> None:
    fake, seen = FakeLambda(), []
    made(fake, ONE)

    def prove(version: str) -> None:
        seen.append((version, answers(fake)))

    made(fake, TWO, prove)
    assert seen == [("2", ("registry/content-1", 512))] and answers(fake) == ("registry/content-2", 1024)
    assert set(fake.functions[NAME]["versions"]) == {"1", "2"}
    made(fake, replace(TWO, version="v3", content="content-3"))
    assert set(fake.functions[NAME]["versions"]) == {"2", "3"}


def test_back_to_the_version_before_nothing_is_built_again() -> None:
    fake = FakeLambda()
    made(fake, ONE)
    made(fake, TWO)
    assert made(fake, ONE) == "1" and answers(fake) == ("registry/content-1", 512)


def test_one_that_does_not_answer_is_removed_and_the_one_before_goes_on() -> None:
    fake = FakeLambda()

    def fails(version: str) -> None:
        raise ModuleFailed("no such layer")

    with pytest.raises(ModuleFailed):
        made(fake, ONE, fails)
    assert fake.functions == {}  # it never answered: nothing of it is left
    made(fake, ONE)
    with pytest.raises(ModuleFailed):
        made(fake, TWO, fails)
    assert answers(fake) == ("registry/content-1", 512) and set(fake.functions[NAME]["versions"]) == {"1"}
    assert made(fake, TWO) == "3" and answers(fake) == ("registry/content-2", 1024)


@pytest.mark.parametrize("before", [None, ONE])
def test_killed_at_any_write_and_run_again_it_is_complete_and_nothing_is_orphaned(before: Wanted | None) -> None:
    for number in count(1):
        fake = FakeLambda()
        if before:
            made(fake, before)
        fake.dies_at = len(fake.writes) + number
        try:
            made(fake, TWO)
        except Killed:
            pass
        else:
            break
        if before:
            assert answers(fake) in (("registry/content-1", 512), ("registry/content-2", 1024))
        fake.dies_at = 0
        made(fake, TWO)
        assert answers(fake) == ("registry/content-2", 1024)
        descriptions = [one["Description"] for one in fake.functions[NAME]["versions"].values()]
        assert sorted(descriptions) == sorted({TWO.digest, *([before.digest] if before else [])})
    assert number > 3


def test_a_function_of_another_is_left_alone() -> None:
    fake = FakeLambda()
    LambdaObjects(FakeAccount(**{"lambda": fake}), "another").ensure(ONE, lambda: "theirs", fine)
    with pytest.raises(InvalidInput, match="another dispatcher's"):
        made(fake, TWO)
    objects(fake).remove(NAME)
    assert answers(fake) == ("theirs", 512)
    fake.functions[NAME]["latest"]["Tags"] = {}
    with pytest.raises(InvalidInput, match="not made by Volvox"):
        made(fake, TWO)


def test_an_environment_beyond_what_lambda_takes_is_refused_before_anything_is_made() -> None:
    fake = FakeLambda()
    with pytest.raises(InvalidInput, match="4,096"):
        made(fake, replace(ONE, variables={"A": "x" * 5000}))
    assert fake.writes == []


def test_who_may_call_it_and_how_often_is_written_once() -> None:
    fake = FakeLambda()
    made(fake, ONE)
    here, before = objects(fake), len(fake.writes)
    for _ in range(2):
        here.ensure_concurrency(NAME, 4)
        here.ensure_async(NAME, 2, "arn:dead")
        here.ensure_permission(NAME, "bucket-0", "s3.amazonaws.com", "arn:aws:s3:::lake")
    assert fake.writes[before:] == ["put_function_concurrency", "put_function_event_invoke_config", "add_permission"]
    assert fake.functions[NAME]["policy"][0]["SourceAccount"] == "123456789012"
    here.ensure_permission(NAME, "bucket-0", "s3.amazonaws.com", "arn:aws:s3:::another")
    assert [one["SourceArn"] for one in fake.functions[NAME]["policy"]] == ["arn:aws:s3:::another"]
    here.ensure_concurrency(NAME, 0)
    here.ensure_concurrency(NAME, 0)
    assert fake.writes[-1] == "delete_function_concurrency" and "most" not in fake.functions[NAME]

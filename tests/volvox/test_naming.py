import pytest

from volvox.errors import InvalidInput
from volvox.naming import checked_name, model_name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/Plankton Images/", "plankton-images"),
        ("s3://bucket/lake.tar.gz", "lake"),
        ("https://host/Zoë.zip?x=1", "zoe"),
        ("/", "model"),
    ],
)
def test_a_source_suggests_a_name_that_can_be_used(source: str, name: str) -> None:
    assert model_name(source) == name
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["../up", "A", "", "-x", "a/b", "a" * 65])
def test_a_name_that_is_unsafe_is_refused_with_one_that_is_safe(name: str) -> None:
    with pytest.raises(InvalidInput, match="for example"):
        checked_name(name)

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from volvox.pools.yaml_editing import positions, with_value

TEXT = """# About the pool.
name: docker   # its name

# What it has.
offers: {cpu: 2, gpus: 0}
job_variables:
  # Reaches loopback.
  network_mode: host

  pull: always
empty:
volumes:
  - /a:/a
  - /b:/b
last: 1
"""


def test_a_value_is_replaced_and_every_comment_stays() -> None:
    changed = with_value(TEXT, ("offers", "gpus"), 1)
    assert changed == TEXT.replace("gpus: 0", "gpus: 1")
    assert with_value(TEXT, ("name",), "other") == TEXT.replace("name: docker  ", "name: other  ")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("offers", "gpu_model"), "NVIDIA A100"),
        (("job_variables", "network_mode"), "bridge"),
        (("job_variables", "new"), {"a": [1, None]}),
        (("job_variables", "deep", "er"), "x: y # z"),
        (("empty",), 3),
        (("empty", "x"), "y"),
        (("volumes",), ["/c:/c"]),
        (("last",), "new\nline"),
        (("brand", "new"), True),
        (("offers",), {}),
        (("job_variables",), None),
    ],
)
def test_the_value_is_there_and_nothing_else_changed(keys: tuple[str, ...], value: Any) -> None:
    changed = with_value(TEXT, keys, value)
    expected = yaml.safe_load(TEXT)
    inner = expected
    for key in keys[:-1]:
        if not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key]
    inner[keys[-1]] = value
    assert yaml.safe_load(changed) == expected
    assert "# About the pool." in changed
    assert "# What it has." in changed
    assert with_value(changed, keys, value) == changed


@given(
    keys=st.lists(st.sampled_from(["offers", "cpu", "gpus", "empty", "job_variables", "pull", "new", "last"]),
                  min_size=1, max_size=3, unique=True),
    value=st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=12), st.lists(st.integers(), max_size=3)),
)  # fmt: skip
def test_whatever_is_set_can_be_read_back(keys: list[str], value: Any) -> None:
    found = yaml.safe_load(with_value(TEXT, tuple(keys), value))
    for key in keys:
        found = found[key]
    assert found == value


def test_an_empty_file_is_begun() -> None:
    assert yaml.safe_load(with_value("# nothing yet\n", ("a", "b"), 1)) == {"a": {"b": 1}}


def test_a_file_without_a_last_line_break_is_gone_on_with() -> None:
    assert with_value("a: 1", ("b",), 2) == "a: 1\nb: 2\n"


def test_every_key_has_its_line() -> None:
    found = positions(TEXT)
    assert found["name",] == 2
    assert found["offers", "gpus"] == 5
    assert found["job_variables", "network_mode"] == 8

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.functions.quantities import amount, cores, cores_text, memory_mb, memory_text


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("256Mi", 256), ("1Gi", 1024), ("0.5Gi", 512), ("2G", 1908), ("536870912", 512), ("1.5Ti", 1572864), ("5e8", 477),
     (" 64Mi ", 64), ("+64Mi", 64), ("524288k", 500), ("524288Ki", 512), ("1000000000000m", 954)],
)  # fmt: skip
def test_memory_is_read_as_kubernetes_reads_it(text: str, megabytes: int) -> None:
    assert memory_mb(text) == megabytes


@pytest.mark.parametrize(
    ("text", "cpu"),
    [("0.5", 0.5), ("500m", 0.5), ("2", 2.0), ("1.0", 1.0), ("0.0001", 0.001), ("1e1", 10.0), (".2", 0.2)],
)
def test_processors_are_read_as_kubernetes_reads_them(text: str, cpu: float) -> None:
    if text == "0.0001":
        with pytest.raises(ValueError, match=r"from 0\.001"):
            cores(text)
    else:
        assert cores(text) == cpu


@pytest.mark.parametrize(
    "text", ["", "many", "1GB", "1 Gi", "-1Gi", "0", "1e999999999", "Gi", "1Mi1", "0x10Mi", "∞", "1kI"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        memory_mb(text)


def test_bytes_that_were_meant_as_megabytes_are_told() -> None:
    with pytest.raises(ValueError, match=r"these are 512 bytes, .*; write 512Mi for megabytes"):
        memory_mb("512")


@given(st.integers(4, 1 << 30))
def test_memory_is_written_as_it_is_read(megabytes: int) -> None:
    assert memory_mb(memory_text(megabytes)) == megabytes


@given(st.integers(1, 100_000_000))
def test_processors_are_written_as_they_are_read(thousandths: int) -> None:
    assert cores(cores_text(thousandths / 1000)) == thousandths / 1000


@given(st.text(max_size=30))
def test_any_text_is_an_amount_or_told(text: str) -> None:
    for read in (amount, memory_mb, cores):
        try:
            assert read(text) >= 0
        except ValueError as error:
            assert str(error)

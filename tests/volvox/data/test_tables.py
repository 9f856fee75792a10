"""Tables beside the images."""

import pytest

from volvox.data.folder import listed
from volvox.data.tables import read_table, seconds_of
from volvox.errors import InvalidInput


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_with_any_usual_delimiter_and_a_byte_order_mark(tmp_path, delimiter) -> None:
    lines = [["file", "label"], ["./a b.png", " cat "], ["../x.png", "dog"], ["short.png"]]
    text = "\r\n".join(delimiter.join(line) for line in lines)
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = read_table(listed(tmp_path), "labels.csv")
    assert table is not None
    assert table.columns == ("file", "label")
    assert [tuple(row.values()) for row in table.rows] == [("a b.png", "cat"), ("", "dog"), ("short.png", "")]


def test_a_table_that_is_no_text_is_refused(tmp_path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,x\n")
    with pytest.raises(InvalidInput, match=r"labels.csv is not text in UTF-8"):
        read_table(listed(tmp_path), "labels.csv")


def test_a_table_with_an_open_quote_is_refused(tmp_path) -> None:
    (tmp_path / "labels.csv").write_text('file,label\n"a.png,cat\n')
    with pytest.raises(InvalidInput, match=r"labels.csv is not a CSV table"):
        read_table(listed(tmp_path), "labels.csv")


def test_no_table_is_none(tmp_path) -> None:
    assert read_table(listed(tmp_path), "labels.csv") is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2020-05-14T16:00:12.505861998", 1589472012.505861),
        ("2020-05-14T16:00:12Z", 1589472012.0),
        ("2020-05-14T18:00:12+02:00", 1589472012.0),
        ("2020-05-14 16:00:12", 1589472012.0),
        ("2020:05:14 16:00:12", 1589472012.0),
        ("1589472012", 1589472012.0),
        ("1589472012.5", 1589472012.5),
        ("1589472012000", 1589472012.0),
        ("1589472012000000000", 1589472012.0),
        ("20200514160012", 1589472012.0),
        ("20200514", 1589414400.0),
        ("20209999", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_read_as_people_and_instruments_write_them(value, seconds) -> None:
    assert seconds_of(value) == (None if seconds is None else pytest.approx(seconds, abs=1e-5))

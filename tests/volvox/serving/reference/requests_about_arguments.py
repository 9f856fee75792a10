"""Golden requests: how values are written in a request, and where."""

from __future__ import annotations

from tests.volvox.serving.reference.requests_about_models import FILE, JSON, PREDICT
from tests.volvox.serving.reference.wire import Golden

_QUERY: list[tuple[str, str, str]] = [
    *(("int", "int_arg", value) for value in ("-3", "1.0", "", "x", " 4 ", "+5", "1e3", "null")),
    *(("float", "float_arg", value) for value in ("1e-3", "1", "x", "", "nan", "inf", "1.5", "-0.1")),
    *(("bool", "bool_arg", value) for value in ("true", "1", "yes", "on", "T", "false", "0", "no", "off", "maybe", "")),
    *(("str", "str_arg", value) for value in ("", "null", "é ü", "not in its enum")),
    *(("choice", "choice", value) for value in ("b", "c")),
    *(("range", "ranged", value) for value in ("1", "9", "0", "10")),
    *(("length", "sized", value) for value in ("ab", "a", "abcde")),
    *(("length-equal", "exact", value) for value in ("abc", "ab")),
    *(("regexp", "worded", value) for value in ("abc", "ABC")),
    *(("two-validators", "both", value) for value in ("aa", "b", "c")),
    *(("function-as-validator", "even", value) for value in ("2", "3")),
    *(("list", "ints", value) for value in ("1", "1,2", "[1,2]", "")),
    *(("commas", "commas", value) for value in ("1,2", "1", "1,x", "")),
    *(("dict", "mapping", value) for value in ("{}", '{"a": 1}')),
    ("nested", "nested", '{"depth": 1}'),
    *(("date", "day", value) for value in ("2024-02-29", "2023-02-29", "29/02/2024", "2024-02-29T00:00:00")),
    *(("datetime", "moment", value) for value in ("2024-02-29T01:02:03", "2024-02-29T01:02:03Z", "2024-02-29", "now")),
    *(("url", "site", value) for value in ("https://example.com/a?b=c", "example.com", "ftp://example.com")),
    *(("email", "mail", value) for value in ("a@example.com", "a", "a@b")),
    *(("uuid", "ident", value) for value in ("12345678-1234-5678-1234-567812345678", "1234")),
    ("hyphen", "demo-str", "given"),
    ("data-key", "wire-name", "given"),
    ("keyword-of-a-data-key", "renamed", "given"),
    ("callable-default", "made", "1"),
    ("nobody", "nobody", "1"),
    ("query-only", "query_only", "1"),
    ("form-only", "form_only", "1"),
    ("json-only", "json_only", "1"),
    ("header", "X-Golden", "in the query"),
    ("file", "file", "text"),
]

VALUES = [
    Golden(f"query-{what}-{value or 'empty'}", PREDICT, "POST", query=((name, value),)) for what, name, value in _QUERY
]


def _json(name: str, value: object, **more: object) -> Golden:
    return Golden(f"json-{name}", PREDICT, "POST", json=value, **more)  # type: ignore[arg-type]


def _body(name: str, content: bytes, **more: object) -> Golden:
    return Golden(f"body-{name}", PREDICT, "POST", content=content, **{"headers": JSON, **more})  # type: ignore[arg-type]


BODIES = [
    _json("values", {"int_arg": 4, "float_arg": 0.25, "bool_arg": True, "str_arg": "other", "texts": ["a"]}),
    _json("texts-for-numbers", {"int_arg": "4", "float_arg": "0.25", "bool_arg": "no"}),
    _json("wrong-types", {"int_arg": [1], "float_arg": {}, "bool_arg": [], "str_arg": 5, "texts": {"a": 1}}),
    _json("float-for-a-whole-number", {"int_arg": 4.0}),
    _json("float-that-is-cut", {"int_arg": 4.7}),
    _json("truth-for-a-number", {"int_arg": True, "float_arg": False}),
    _json("null", {"int_arg": None, "str_arg": None, "null_arg": None, "texts": None}),
    _json("dict", {"mapping": {"a": [1, {"b": None}]}}),
    _json("dict-as-text", {"mapping": '{"a": 1}'}),
    _json("nested", {"nested": {"depth": "3"}}),
    _json("nested-unknown-key", {"nested": {"depth": 3, "more": 1}}),
    _json("nested-missing-key", {"nested": {}}),
    _json("nested-wrong-type", {"nested": "text"}),
    _json("list", {"ints": [1, "2"]}),
    _json("list-single-value", {"ints": 3}),
    _json("list-with-errors", {"ints": [1, "x", None, 2.5]}),
    _json("empty-list", {"ints": [], "texts": []}),
    _json("commas-as-a-list", {"commas": [1, 2]}),
    _json("commas-as-a-number", {"commas": 1}),
    _json("unknown-names", {"nobody": 1, "renamed": "by keyword", "wire-name": "by wire name"}),
    _json("list-as-body", [1, 2]),
    _json("text-as-body", "text"),
    _json("number-as-body", 1),
    _json("null-as-body", None, content=b"null", headers=JSON),
    _json("places", {"query_only": 1, "form_only": 2, "json_only": 3, "X-Golden": "x"}),
    _json("file-as-text", {"file": "text"}),
    _json("unicode", {"str_arg": "\u00e9\U0001f33f"}),
    _json("large-number", {"int_arg": 10**30}),
    _body("empty", b""),
    _body("cut-off", b'{"int_arg": 4'),
    _body("no-json", b"int_arg=4"),
    _body("not-utf8", b'{"str_arg": "\xe9"}'),
    _body("only-blanks", b"  "),
    _body("json-without-content-type", b'{"int_arg": 4}', headers={}),
    _body("json-as-text", b'{"int_arg": 4}', headers={"content-type": "text/plain"}),
    _body("json-of-a-kind", b'{"int_arg": 4}', headers={"content-type": "application/vnd.a+json"}),
    _body("json-with-charset", b'{"int_arg": 4}', headers={"content-type": "application/json; charset=utf-8"}),
    _body("nan", b'{"float_arg": NaN}'),
    _body("key-twice", b'{"int_arg": 4, "int_arg": 5}'),
]


def _form(name: str, *fields: tuple[str, str], **more: object) -> Golden:
    return Golden(f"form-{name}", PREDICT, "POST", form=fields, **more)  # type: ignore[arg-type]


def _file(name: str, *files: tuple[str, tuple[object, ...]], **more: object) -> Golden:
    return Golden(f"file-{name}", PREDICT, "POST", files=files, **more)  # type: ignore[arg-type]


_MANY = (("int_arg", "4"), ("texts", "a"), ("texts", "b"), ("ints", "1"), ("bool_arg", "on"), ("demo-str", ""))

FORMS = [
    _form("urlencoded", *_MANY),
    _form("multipart", *_MANY, files=(FILE,)),
    _form("errors-all-at-once", ("int_arg", "x"), ("float_arg", "2"), ("choice", "c"), ("ints", "1"), ("ints", "y")),
    _form("key-twice", ("int_arg", "4"), ("int_arg", "5")),
    _form("query-wins", ("int_arg", "4"), query=(("int_arg", "5"),)),
    _form("lists-are-not-joined", ("ints", "1"), query=(("ints", "5"), ("ints", "6"))),
    _form("places", ("query_only", "1"), ("form_only", "2"), ("json_only", "3"), ("X-Golden", "x")),
    _form("query-places", query=(("query_only", "1"), ("form_only", "2"), ("json_only", "3"))),
    _form("header", headers={"x-golden": "in the header"}),
    _form("keyword-in-a-header", headers={"header_arg": "x"}),
    _form("unicode", ("str_arg", "é ü +&=")),
    _form("empty-names", ("", "a"), ("int_arg", "4")),
    Golden("query-list-repeated", PREDICT, "POST", query=(("ints", "1"), ("ints", "2"))),
    Golden("query-list-with-errors", PREDICT, "POST", query=(("ints", "1"), ("ints", "x"))),
    Golden("query-scalar-repeated", PREDICT, "POST", query=(("int_arg", "1"), ("int_arg", "2"))),
    Golden("query-and-json", PREDICT, "POST", query=(("int_arg", "1"),), json={"int_arg": 2, "str_arg": "j"}),
    _file("as-deepaas-hands-it-over", FILE),
    _file("by-wire-name", ("image", ("a.png", b"\x89PNG\x00\xff", "image/png"))),
    _file("by-keyword", ("picture", ("a.png", b"\x89PNG", "image/png"))),
    _file("without-content-type", ("file", ("a.bin", b"1", ""))),
    _file("with-a-unicode-name", ("file", ("été 🌿.txt", b"1", "text/plain"))),
    _file("with-a-path-as-name", ("file", ("../../etc/passwd", b"1", "text/plain"))),
    _file("empty", ("file", ("a.txt", b"", "text/plain"))),
    _file("twice", ("file", ("a.txt", b"first", "text/plain")), ("file", ("b.txt", b"second", "text/plain"))),
    _file("two-fields", FILE, ("image", ("a.png", b"1", "image/png"))),
    _file("nobody-asked-for", ("nobody", ("a.txt", b"1", "text/plain"))),
    _file("where-text-is-expected", ("str_arg", ("a.txt", b"text", "text/plain"))),
    _file("with-charset", ("file", ("a.txt", b"1", "text/plain; charset=latin-1"))),
    _form("text-where-a-file-is-expected", ("file", "text")),
    _form("text-beside-a-file", ("file", "text"), files=(("image", ("a.png", b"1", "image/png")),)),
    Golden(
        "form-multipart-cut-off", PREDICT, "POST",
        content=b'--b\r\nContent-Disposition: form-data; name="int_arg"\r\n\r\n4',
        headers={"content-type": "multipart/form-data; boundary=b"},
    ),
]  # fmt: skip

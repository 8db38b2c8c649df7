"""YAML as recipes read it: which text is which value, and what broken files are told."""

from pathlib import Path
from typing import Any

import pytest

from flows.recipe_yaml import MAX_BYTES, Document, read_document, read_value
from tasks.core.errors import UserError


def read(tmp_path: Path, content: str | bytes, monkeypatch: pytest.MonkeyPatch) -> Document:
    monkeypatch.chdir(tmp_path)
    path = Path("x.yaml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-7", 5e-7),
        ("5e7", 5e7),
        ("1E-6", 1e-6),
        ("1.5E+3", 1500.0),
        ("-1_000", -1000),
        ("1_000.5", 1000.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("02:00:00", "02:00:00"),
        ("2025-01-31", "2025-01-31"),
        ("1e", "1e"),
        ("'5e-7'", "5e-7"),
        ("!!str 5", "5"),
        ("[a, 1, {b: c}]", ["a", 1, {"b": "c"}]),
        ("{a: &x {b: 1}, c: *x}", {"a": {"b": 1}, "c": {"b": 1}}),
        ("{a: &x {b: 1, c: 2}, d: {<<: *x, c: 3}}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        (
            "{a: &x {b: 1}, d: &y {b: 2, c: 2}, e: {<<: [*x, *y]}}",
            {"a": {"b": 1}, "d": {"b": 2, "c": 2}, "e": {"b": 1, "c": 2}},
        ),
        ("中文", "中文"),
    ],
)
def test_yaml_text_gives_value_and_type(text: str, value: Any) -> None:
    result = read_value(text, "--set a")
    assert result == value
    assert type(result) is type(value)


def test_yaml_each_key_knows_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = read(tmp_path, "a: &x\n  b: 1\n\nc:\n  <<: *x\n  d:\n    - 5\n    - 6\n", monkeypatch)
    paths = {("a",): 1, ("a", "b"): 2, ("c",): 4, ("c", "b"): 2, ("c", "d"): 6, ("c", "d", 1): 8, ("c", "d", 1, "z"): 8}
    assert {path: document.origin(path).order for path in paths} == paths


def test_yaml_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = read(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", monkeypatch)
    assert document.values == {"a": 1, "b": 2}
    assert document.origin(("b",)).label == "x.yaml:2"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "a:\n\tb: 1",
            "x.yaml:2:1: invalid YAML (found character '\\t' that cannot start any token): indent with spaces",
        ),
        ("a: b: c", "x.yaml:1:5: invalid YAML (mapping values are not allowed here): line up the indentation"),
        (
            "a: @b",
            "x.yaml:1:4: invalid YAML (found character '@' that cannot start any token): put the value in quotes",
        ),
        ("a: [1,\n", "x.yaml:2:1: invalid YAML"),
        ("a: 'b", "close the quote"),
        ("a: 1\n---\nb: 2", "x.yaml:2:1: invalid YAML (but found another document): keep one document"),
        ("a: *b", "x.yaml:1:4: invalid YAML (found undefined alias 'b'): define it earlier"),
        ("- a\nb: 1", "x.yaml:2:1: invalid YAML"),
        ("- a\n- b", "x.yaml:1: a recipe is a mapping"),
        ("just text", "x.yaml:1: a recipe is a mapping"),
        ("", "x.yaml is empty"),
        ("# nothing\n", "x.yaml is empty"),
        ("a: 1\nb: \x07", "x.yaml:2:4: an unprintable character"),
        ("%YAML 1.1\n---\na: on", "x.yaml:1:1: recipes are YAML 1.2"),
        (b"a: 1\nb: \xe9t\xe9", "x.yaml:2: byte 0xe9 is not UTF-8: save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "x.yaml:1: byte 0xff is not UTF-8"),
        (b"\x7fELF\0\0\0", "x.yaml is a binary file"),
        (b"\x1f\x8b\x08\x08", "x.yaml:1: byte 0x8b is not UTF-8"),
        ("[" * 5000, "x.yaml:1:1: nested too deeply"),
        ("a: &a [*a]", "x.yaml:1: too many or too deeply nested values"),
        ("a: &a\n  <<: *a", "does not name a mapping"),
        (
            "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]",
            "too many or too deeply nested values",
        ),
    ],
)
def test_yaml_broken_file_is_refused_with_place_and_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, monkeypatch).raise_mistakes()
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", "x.yaml:5: b.c is given twice, first on line 3: keep one of them"),
        ("b: {c: 1, c: 1}", "x.yaml:1: b.c is given twice, first on line 1: keep one of them"),
        ("a: .nan", "x.yaml:1: a is .nan, which is not a finite number"),
        ("a: 1e999", "x.yaml:1: a is 1e999, which is not a finite number"),
        ("a: " + "9" * 5000, "which is not a number"),
        ("a: !!python/name:os.system x", "a has the tag tag:yaml.org,2002:python/name:os.system: a recipe holds plain"),
        ("a: !foo [1]", "x.yaml:1: a has the tag !foo"),
        ("a: !!set {b}", "x.yaml:1: a has the tag tag:yaml.org,2002:set"),
        ("a:\n  5: b", "x.yaml:2: a has a key that is not text"),
        ("a:\n  [x, y]: b", "x.yaml:2: a has a key that is not text"),
        ("a:\n  <<: 5", "a has a << that does not name a mapping"),
    ],
)
def test_yaml_value_that_no_recipe_holds_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, monkeypatch).raise_mistakes()
    assert expected in str(caught.value)


def test_yaml_huge_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("x.yaml").open("wb") as file:
        file.truncate(50_000_000)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read"))
    with pytest.raises(UserError, match=rf"x.yaml has 50,000,000 bytes; .* at most {MAX_BYTES:,} bytes"):
        read_document(Path("x.yaml"))


def test_yaml_anchor_defined_twice_gives_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert read_value("[&a 1, *a, &a 2, *a]", "--set a") == [1, 1, 2, 2]
    assert not recwarn.list

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.aws.s3 import listing
from airflow_secure_ml.adapters.aws.s3.listing import ListedFile, Listing, Writing, parse
from airflow_secure_ml.errors import FormatError

VECTORS = Path(__file__).parents[3] / "vectors" / "v1" / "s3_listing"
FILE = ListedFile(version="v1", etag="5d41402abc4b2a76b9719d911017c592", size_bytes=5)
WRITING = Writing(id="00112233445566778899aabbccddeeff", since="2026-11-27T23:59:10Z")
TWO = {
    "a.csv": ListedFile(version="01JQ.x_-9", etag="5d41402abc4b2a76b9719d911017c592", size_bytes=5),
    "b/ü %2F 😀.parquet": ListedFile(
        version="3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY",
        etag="d41d8cd98f00b204e9800998ecf8427e-13",
        size_bytes=5 << 40,
    ),
}
MEANT = {
    "committed": Listing(files=TWO),
    "being-replaced": Listing(files=TWO, writing=WRITING),
    "being-written-first": Listing(files=None, writing=WRITING),
    "removed": Listing(files=None),
    "empty": Listing(files={}),
    "without-versions": Listing(
        files={"x": ListedFile(version=None, etag="0cc175b9c0f1b6a831c399e269772661", size_bytes=0)}
    ),
}


@pytest.mark.parametrize("name", MEANT)
def test_frozen_bytes_are_read_and_written_as_ever(name):
    frozen = (VECTORS / f"{name}.json").read_bytes()

    assert parse(frozen) == MEANT[name]
    assert MEANT[name].encode() == frozen


def test_every_frozen_file_is_read():
    assert {path.stem for path in VECTORS.glob("*")} == set(MEANT)


_names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/*?["), min_size=1, max_size=8),
    min_size=1,
    max_size=3,
).map("/".join)
_files = st.builds(
    ListedFile,
    version=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    etag=st.text("0123456789abcdef-", min_size=1, max_size=40),
    size_bytes=st.integers(0, 5 << 40),
)


@given(st.none() | st.dictionaries(_names, _files, max_size=5), st.none() | st.just(WRITING))
def test_what_was_written_is_read(files, writing):
    said = Listing(files=files, writing=writing)
    try:
        data = said.encode()
    except FormatError:
        return  # Names such as '..', or two that fold to one: refused when it is written.

    assert parse(data) == said


@given(st.integers(0, len(Listing(files=TWO, writing=WRITING).encode()) * 8 - 1))
def test_a_flipped_bit_says_something_else_or_is_refused(bit):
    data = bytearray(Listing(files=TWO, writing=WRITING).encode())
    data[bit // 8] ^= 1 << bit % 8

    try:
        found = parse(bytes(data))
    except FormatError:
        return
    assert found != Listing(files=TWO, writing=WRITING)


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data):
    with pytest.raises(FormatError):
        parse(data)


@pytest.mark.parametrize(
    "name",
    [
        "../x", "..", ".", "", "/x", "a//b", "a/", "a/./b", "a/../../x", "a\0b", "a\nb", "a\x7fb",
        "a*", "a?", "a[1]", "_asml/x.asmk", "_asml/listing", "_asml", "x" * 1025, "ü" * 513,
        "\ud800",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(name):
    forged = _forged(files={name: {"bytes": 5, "etag": "e", "version": "v"}})

    with pytest.raises(FormatError):
        parse(forged)
    with pytest.raises(FormatError):
        Listing(files={name: FILE}).encode()


@pytest.mark.parametrize(
    "names",
    [("Data.csv", "data.csv"), ("A/x", "a/y"), ("a", "a/b"), ("a/b", "a/b/c"),
     ("STRASSE", "straße")],
    ids=" and ".join,
)  # fmt: skip
@pytest.mark.parametrize("turn", [1, -1], ids=["so", "turned"])
def test_names_that_no_file_system_has_together_are_refused(names, turn):
    names = names[::turn]
    forged = _forged(files={name: {"bytes": 5, "etag": "e", "version": "v"} for name in names})

    with pytest.raises(FormatError):
        parse(forged)
    with pytest.raises(FormatError):
        listing.check_names(names)


@pytest.mark.parametrize(
    "file",
    [
        {"bytes": (5 << 40) + 1, "etag": "e", "version": "v"},
        {"bytes": 10**4000, "etag": "e", "version": "v"},
        {"bytes": -1, "etag": "e", "version": "v"},
        {"bytes": 1.0, "etag": "e", "version": "v"},
        {"bytes": True, "etag": "e", "version": "v"},
        {"bytes": "5", "etag": "e", "version": "v"},
        {"bytes": None, "etag": "e", "version": "v"},
        {"bytes": 5, "etag": "", "version": "v"},
        {"bytes": 5, "etag": 'a"b', "version": "v"},
        {"bytes": 5, "etag": "e\r\nx-evil: 1", "version": "v"},
        {"bytes": 5, "etag": "e" * 257, "version": "v"},
        {"bytes": 5, "etag": None, "version": "v"},
        {"bytes": 5, "etag": ["e"], "version": "v"},
        {"bytes": 5, "etag": "e", "version": ""},
        {"bytes": 5, "etag": "e", "version": "v "},
        {"bytes": 5, "etag": "e", "version": "v\r\n"},
        {"bytes": 5, "etag": "e", "version": "v" * 1025},
        {"bytes": 5, "etag": "e", "version": 7},
        {"bytes": 5, "etag": "e", "version": "ü"},
        {"bytes": 5, "etag": "e"},
        {"bytes": 5, "etag": "e", "version": "v", "key": "other/file"},
        [5, "e", "v"],
        "v",
        None,
    ],
    ids=lambda file: json.dumps(file)[:60],
)
def test_a_file_that_no_store_has_is_refused(file):
    with pytest.raises(FormatError):
        parse(_forged(files={"x": file}))


@pytest.mark.parametrize(
    "writing",
    [
        {"id": "0" * 31, "since": WRITING.since},
        {"id": "G" * 32, "since": WRITING.since},
        {"id": WRITING.id + "\n", "since": WRITING.since},
        {"id": WRITING.id, "since": "yesterday"},
        {"id": WRITING.id, "since": 5},
        {"id": WRITING.id},
        {},
        [],
        True,
        {"id": WRITING.id, "since": WRITING.since, "more": 1},
    ],
    ids=lambda writing: json.dumps(writing)[:60],
)
def test_a_writer_that_is_none_is_refused(writing):
    with pytest.raises(FormatError):
        parse(_forged(writing=writing))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"1", b'"x"', b"{}", b"[" * 100_000,
        b'{"files":null,"secure_ml_listing":1}',
        b'{"files":null,"secure_ml_listing":1,"writing":null} ',
        b'{"files": null,"secure_ml_listing":1,"writing":null}',
        b'\xef\xbb\xbf{"files":null,"secure_ml_listing":1,"writing":null}',
        b'{"files":null,"files":null,"secure_ml_listing":1,"writing":null}',
        b'{"files":{"\\u0061":{"bytes":1,"etag":"e","version":null}},"secure_ml_listing":1,"writing":null}',
        b'{"files":null,"more":1,"secure_ml_listing":1,"writing":null}',
        b'{"files":null,"secure_ml_listing":true,"writing":null}',
        b'{"files":null,"secure_ml_listing":0,"writing":null}',
        b'{"files":[],"secure_ml_listing":1,"writing":null}',
        b'{"files":NaN,"secure_ml_listing":1,"writing":null}',
    ],
    ids=lambda data: repr(data[:50]),
)  # fmt: skip
def test_another_text_is_refused(data):
    with pytest.raises(FormatError):
        parse(data)


def test_a_later_version_says_so():
    with pytest.raises(FormatError, match="version 2, this release reads 1"):
        parse(b'{"files":null,"secure_ml_listing":2,"writing":null}')


def test_a_listing_past_its_length_is_not_parsed(monkeypatch):
    monkeypatch.setattr(listing, "MAX_LISTING_BYTES", 50)

    with pytest.raises(FormatError, match="more than 50 bytes"):
        parse(b'{"files":null,"secure_ml_listing":1,"writing":null}')
    with pytest.raises(FormatError, match="51 bytes"):
        Listing(files=None).encode()


def test_too_many_files_are_refused(monkeypatch):
    monkeypatch.setattr(listing, "MAX_FILES", 2)
    three = dict.fromkeys("abc", FILE)

    with pytest.raises(FormatError, match="more than 2 files"):
        Listing(files=three).encode()
    with pytest.raises(FormatError, match="more than 2 files"):
        parse(_forged(files={name: {"bytes": 5, "etag": "e", "version": "v"} for name in "abc"}))


def _forged(*, files=None, writing=None):
    """A listing as its writer spells it, whatever it says."""
    record = {"files": files, "secure_ml_listing": 1, "writing": writing}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")

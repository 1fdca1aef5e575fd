from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from airflow_secure_ml.core.canonical import encode
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest, compare
from airflow_secure_ml.errors import FormatError, ManifestMismatchError

CORE = "c" * 64


def entry(path: str = "", *, size: int = 1, fill: str = "0", core: str | None = None) -> Entry:
    digest = Digest(algorithm="sha256", hex=fill * 64)
    return Entry(path=path, size_bytes=size, digest=digest, core_id=core)


def test_the_canonical_form_and_its_digest_are_frozen():
    manifest = Manifest.of([entry("b", core=CORE), entry("a/ü", size=2)])

    expected = (
        '{"files":[{"bytes":2,"digest":"sha256:' + "0" * 64 + '","path":"a/ü"},'
        '{"bytes":1,"core":"' + CORE + '","digest":"sha256:' + "0" * 64 + '","path":"b"}]}'
    ).encode()
    assert manifest.canonical == expected
    assert manifest.digest == "sha256:" + hashlib.sha256(expected).hexdigest()


def test_sealed_means_every_file():
    assert Manifest.of([entry("a", core=CORE), entry("b", core=CORE)]).is_sealed
    assert not Manifest.of([entry("a", core=CORE), entry("b")]).is_sealed


def test_one_file_is_no_directory():
    assert not Manifest.of([entry()]).is_directory
    assert Manifest.of([entry("a")]).is_directory


paths = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0."), min_size=1, max_size=8),
    min_size=1,
    max_size=3,
).map("/".join)


@given(st.lists(paths, min_size=1, max_size=6, unique=True), st.booleans())
def test_records_and_manifest_are_one(names, sealed):
    manifest = Manifest.of(entry(name, core=CORE if sealed else None) for name in names)

    assert Manifest.from_records(manifest.as_records()) == manifest


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        "a/.",
        "a\0b",
        "\ud800",
        "x" * 4097,
    ],
    ids=repr,
)
def test_a_path_that_could_lead_elsewhere_is_refused(path):
    with pytest.raises(FormatError):
        entry(path)


@pytest.mark.parametrize("size", [-1, 2**53])
def test_an_impossible_length_is_refused(size):
    with pytest.raises(FormatError):
        entry(size=size)


def test_a_manifest_of_nothing_is_refused():
    with pytest.raises(FormatError, match="0 files"):
        Manifest.of([])


def test_a_path_twice_is_refused():
    with pytest.raises(FormatError, match="twice"):
        Manifest.of([entry("a"), entry("a", fill="1")])


def test_a_file_and_a_directory_at_once_is_refused():
    with pytest.raises(FormatError, match="at once"):
        Manifest.of([entry(""), entry("a")])


def test_digests_of_two_algorithms_are_refused():
    other = Entry(path="b", size_bytes=1, digest=Digest(algorithm="blake3", hex="0" * 64))

    with pytest.raises(FormatError, match="two algorithms"):
        Manifest.of([entry("a"), other])


GOOD = entry("a").as_record()


@pytest.mark.parametrize(
    "records",
    [
        None,
        {},
        [],
        [1],
        [{}],
        [{**GOOD, "more": 1}],
        [{**GOOD, "path": 1}],
        [{**GOOD, "bytes": True}],
        [{**GOOD, "bytes": "1"}],
        [{**GOOD, "digest": "md5:0"}],
        [{**GOOD, "core": 5}],
        [{**GOOD, "core": "C" * 64}],
        [{**GOOD, "path": "b"}, GOOD],
    ],
    ids=repr,
)
def test_records_of_another_shape_are_refused(records):
    with pytest.raises(FormatError):
        Manifest.from_records(records)


def test_compare_names_what_was_added_is_missing_and_changed():
    signed = Manifest.of([entry("a"), entry("b"), entry("c", core=CORE)])
    found = Manifest.of([entry("a", size=2), entry("c", core=CORE), entry("d")])

    with pytest.raises(ManifestMismatchError, match="changed 'a'") as caught:
        compare(signed, found)

    assert caught.value.added == ("d",)
    assert caught.value.missing == ("b",)
    assert caught.value.changed == ("a",)
    assert caught.value.why == "digest_differs"


def test_a_file_under_another_core_id_is_changed():
    with pytest.raises(ManifestMismatchError):
        compare(Manifest.of([entry(core=CORE)]), Manifest.of([entry(core="d" * 64)]))


def test_equal_manifests_compare_equal():
    compare(Manifest.of([entry("a")]), Manifest.of([entry("a")]))


def test_a_mismatch_names_at_most_ten_files():
    many = Manifest.of([entry(f"f{n:02}") for n in range(20)])

    with pytest.raises(ManifestMismatchError) as caught:
        compare(many, Manifest.of([entry("x")]))

    assert "and 10 more" in str(caught.value)
    assert "f15" not in str(caught.value)
    assert len(caught.value.missing) == 20


@given(
    st.text(min_size=1).filter(lambda text: "\0" not in text and all(text.split("/"))),
    st.integers(0, 2**53 - 1),
    st.sampled_from([None, "0f" * 32]),
)
def test_an_entry_is_written_as_every_other_record_is(path, size_bytes, core_id):
    assume(not {".", ".."} & set(path.split("/")))
    digest = Digest(algorithm="sha256", hex="ab" * 32)
    try:
        entry = Entry(path=path, size_bytes=size_bytes, digest=digest, core_id=core_id)
    except FormatError:
        reject()

    assert entry.canonical == encode(entry.as_record())

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.digest import Digest, digest_of
from airflow_secure_ml.errors import ConfigurationError, FormatError, MissingExtraError

ABC = {
    "sha256": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "blake3": "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
}


@pytest.mark.parametrize("algorithm", ABC)
def test_a_digest_is_the_published_one(algorithm):
    assert str(digest_of([b"a", b"", memoryview(b"bc")], algorithm=algorithm)) == ABC[algorithm]


@given(st.binary(min_size=32, max_size=32))
def test_text_and_digest_are_one(raw):
    text = f"sha256:{raw.hex()}"

    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "md5:" + "0" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 64 + "\n",
        "SHA256:" + "0" * 64,
        "sha256:" + "٠" * 64,
    ],
)
def test_another_spelling_is_refused(text):
    with pytest.raises(FormatError):
        Digest.parse(text)


def test_digests_of_two_algorithms_are_never_equal():
    one = Digest(algorithm="sha256", hex="0" * 64)

    assert one.equals(Digest(algorithm="sha256", hex="0" * 64))
    assert not one.equals(Digest(algorithm="blake3", hex="0" * 64))


def test_an_unknown_algorithm_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="md5"):
        digest_of([b""], algorithm="md5")


def test_blake3_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "blake3", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'airflow-secure-ml\[blake3\]'"):
        digest_of([b""], algorithm="blake3")

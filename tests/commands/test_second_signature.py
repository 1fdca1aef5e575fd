"""A key that signs twice, from the command line of its owner to that of who trusts it."""

from __future__ import annotations

import json

import pytest

from tests.commands.test_recipients import _file, _home


@pytest.fixture
def ours(tmp_path):
    home = _home(tmp_path / "ours")
    home.done("keys", "create", "release", "--for", "sign", "--post-quantum")
    return home


def test_both_signatures_count_and_neither_can_be_taken_away(ours, tmp_path):
    theirs = _home(tmp_path / "theirs")
    _file(theirs, "release.pem", ours.done("keys", "export-public", "release"))
    theirs.done("keys", "trust", "them", "release.pem")
    plain = _file(ours, "model", "weights")
    ours.done("sign", plain, "--key", "release")
    (statement,) = (ours.path / "model.sig").iterdir()

    assert "signed by them/1" in theirs.done("verify", plain, "--signed-by", "them")

    envelope = json.loads(statement.read_text())
    assert [each["keyid"] for each in envelope["signatures"]] == [
        "release/1",
        "release/1+ml-dsa-65",
    ]
    del envelope["signatures"][1]
    statement.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))
    for home, name in ((ours, "release"), (theirs, "them")):
        refused = home.refused(1, "verify", plain, "--signed-by", name)
        assert refused["error"] == "SignatureError"
        assert "second signature" in refused["message"]


def test_a_wrap_key_has_no_post_quantum_kind(ours):
    refused = ours.refused(2, "keys", "create", "more", "--for", "wrap", "--post-quantum")

    assert "AES-256" in refused["message"]

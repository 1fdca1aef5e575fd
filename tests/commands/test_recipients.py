"""The command line between two organisations: keys to receive with, recipients, signatures."""

from __future__ import annotations

import pytest

from tests.test_cli import Home


@pytest.fixture
def ours(tmp_path):
    return _home(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path):
    home = _home(tmp_path / "theirs")
    home.done("keys", "create", "inbox", "--for", "receive", "--post-quantum")
    return home


def _home(path):
    path.mkdir()
    home = Home(path)
    home.done("keys", "init")
    return home


def _file(home, name, text):
    (home.path / name).write_text(text)
    return home.path / name


def _trust_each_other(ours, theirs):
    _file(ours, "inbox.pub", theirs.done("keys", "export-public", "inbox"))
    ours.done("keys", "trust", "them", "inbox.pub")
    _file(theirs, "ours.pem", ours.done("keys", "export-public", "pipeline"))
    theirs.done("keys", "trust", "us", "ours.pem")


def test_a_file_goes_to_another_organisation_and_they_know_who_sealed_it(ours, theirs):
    _trust_each_other(ours, theirs)
    plain, sealed = _file(ours, "plain", "for you"), ours.path / "sealed"
    ours.done("seal", plain, sealed, "--key", "data", "--key", "them")
    ours.done("sign", sealed)

    theirs.done("open", sealed, "got", "--context", f"object=file://{sealed}", "--signed-by", "us")

    assert (theirs.path / "got").read_text() == "for you"
    assert "recipient" in ours.done("keys", "list")
    assert "receive" in theirs.done("keys", "list")


def test_a_copy_that_came_with_its_statement_is_opened_as_what_it_was(ours, theirs):
    _trust_each_other(ours, theirs)
    plain, sealed = _file(ours, "plain", "for you"), ours.path / "sealed"
    ours.done("seal", plain, sealed, "--key", "them")
    ours.done("sign", sealed)
    copy = theirs.path / "copy"
    copy.write_bytes(sealed.read_bytes())
    (ours.path / "sealed.sig").rename(theirs.path / "copy.sig")

    theirs.done("open", copy, "got", "--context", f"object=file://{sealed}", "--signed-by", "us")

    assert (theirs.path / "got").read_text() == "for you"


def test_what_a_stranger_sealed_is_not_opened_without_saying_so(ours, theirs):
    _trust_each_other(ours, theirs)
    plain, sealed = _file(ours, "plain", "forged"), ours.path / "sealed"
    ours.done("seal", plain, sealed, "--key", "them")

    refused = theirs.refused(1, "open", sealed, "got", "--any-context")
    assert refused["why"] == "key_not_allowed"
    assert "anybody can seal" in refused["message"]
    refused = theirs.refused(1, "open", sealed, "got", "--any-context", "--signed-by", "us")
    assert refused["why"] == "not_signed"
    assert not (theirs.path / "got").exists()
    theirs.done("open", sealed, "got", "--any-context", "--unsigned")
    assert (theirs.path / "got").read_text() == "forged"


def test_a_rewrap_does_not_launder_what_a_stranger_sealed(ours, theirs):
    _trust_each_other(ours, theirs)
    plain, sealed = _file(ours, "plain", "forged"), ours.path / "sealed"
    ours.done("seal", plain, sealed, "--key", "them")

    before = sealed.read_bytes()
    refused = theirs.refused(1, "rewrap", sealed, "--key", "data")
    assert refused["why"] == "key_not_allowed"
    assert sealed.read_bytes() == before
    theirs.done("rewrap", sealed, "--key", "data", "--unsigned")
    theirs.done("open", sealed, "got", "--any-context")


def test_a_statement_of_another_file_vouches_for_nothing(ours, theirs):
    _trust_each_other(ours, theirs)
    sealed = ours.path / "sealed"
    ours.done("seal", _file(ours, "plain", "signed"), sealed, "--key", "them")
    ours.done("sign", sealed)
    ours.done("seal", _file(ours, "other", "forged"), sealed, "--key", "them", "--replace")

    refused = theirs.refused(1, "open", sealed, "got", "--any-context", "--signed-by", "us")

    assert refused["error"] in ("ManifestMismatchError", "SignatureError")
    assert not (theirs.path / "got").exists()


def test_strength_is_not_mixed_unless_asked(ours, theirs):
    theirs.done("keys", "create", "old", "--for", "receive")
    _trust_each_other(ours, theirs)
    _file(ours, "old.pub", theirs.done("keys", "export-public", "old"))
    ours.done("keys", "trust", "old", "old.pub")
    plain = _file(ours, "plain", "x")
    both = ("seal", plain, "sealed", "--key", "them", "--key", "old")

    assert "weakest" in ours.refused(2, *both)["message"]
    ours.done(*both, "--mixed-strength")


@pytest.mark.parametrize(
    "words",
    [
        ("--signed-by", "us", "--unsigned"),
        ("--signed-by", "nobody"),
    ],
)
def test_a_wrong_demand_is_refused(ours, theirs, words):
    _trust_each_other(ours, theirs)
    ours.done("seal", _file(ours, "plain", "x"), "sealed", "--key", "them")

    answer = theirs.run("open", ours.path / "sealed", "got", "--any-context", *words)

    assert answer.returncode in (1, 2)
    assert not (theirs.path / "got").exists()


def test_a_pipe_has_no_statement(ours, theirs):
    _trust_each_other(ours, theirs)
    refused = theirs.refused(2, "open", "-", "got", "--any-context", "--signed-by", "us")

    assert "a pipe has no statement" in refused["message"]


def test_a_key_to_receive_with_rotates_and_its_files_are_rewrapped(theirs):
    sealed = theirs.path / "files"
    sealed.mkdir()
    plain = _file(theirs, "plain", "x")
    theirs.done("seal", plain, sealed / "a", "--key", "inbox", "--key", "data")
    theirs.done("keys", "rotate", "inbox")

    theirs.done("rewrap", sealed, "--key", "inbox", "--recursive")

    assert "inbox/2  active     1 files" in theirs.done("keys", "usage", "inbox", sealed)
    theirs.done("open", sealed / "a", "got", "--any-context")


def test_a_damaged_public_key_is_refused(ours, theirs):
    text = theirs.done("keys", "export-public", "inbox").strip()
    _file(ours, "inbox.pub", text[:-5] + ("A" if text[-5] != "A" else "B") + text[-4:])

    refused = ours.refused(2, "keys", "trust", "them", "inbox.pub")

    assert "whole and unchanged" in refused["message"]


def test_what_a_stranger_sealed_as_a_folder_is_not_opened_either(ours, theirs):
    _trust_each_other(ours, theirs)
    folder, sealed = ours.path / "folder", ours.path / "tree"
    folder.mkdir()
    (folder / "a").write_text("forged")
    ours.done("seal", folder, sealed, "--recursive", "--key", "them")

    # Its files open with the data set's key, and that with the key to receive with.
    refused = theirs.refused(1, "open", sealed / "a", "got", "--any-context")
    assert refused["why"] == "key_not_allowed"
    refused = theirs.refused(1, "open", sealed, "got", "--recursive", "--any-context")
    assert refused["error"] in ("SignatureError", "PolicyError")
    assert not (theirs.path / "got").exists()
    theirs.done("open", sealed, "got", "--recursive", "--any-context", "--signed-by", "us")
    assert (theirs.path / "got" / "a").read_text() == "forged"

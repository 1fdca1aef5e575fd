"""Shredding on the command line: real processes, a keyring, a folder that was sealed as a whole."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.adapters.sequencer import stop_sequencer
from tests.commands.test_rotation import Desk


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    assert desk.run("keys", "init").returncode == 0
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.csv").write_text("age\n54\n")
    desk.done("seal", "--recursive", "plain", "visits")
    yield desk
    stop_sequencer(tmp_path / "secure_ml" / "audit")


def test_a_shredded_folder_opens_no_more_and_its_certificate_says_why(desk):
    done = desk.done("shred", "visits", "--reason", "p17 asked", "--yes")

    assert (done["objects"], done["copies"], len(done["certificates"])) == (1, 1, 1)
    answer = desk.run("open", "--recursive", "visits", "back", "--json")
    assert answer.returncode == 1
    assert [each["why"] for each in json.loads(answer.stdout)["failures"]] == ["key_destroyed"]
    assert not (desk.path / "back" / "a.csv").exists()
    (said,) = desk.done("certificates", "visits")
    assert (said["reason"], said["objects"]) == ("p17 asked", ["a.csv"])
    assert said["wrapped_by"] == ["data/1"]
    (event,) = (
        each["event"]
        for each in desk.done("audit", "show", "--act", "dataset.shred")
        if each["event"]["phase"] == "intent"
    )
    assert said["event"] == f"{event['emitter']}:{event['seq']}"


def test_nobody_there_to_ask_means_no(desk):
    refused = desk.refused(2, "shred", "visits", "--reason", "p17 asked")

    assert "--yes" in refused["message"]
    assert desk.run("open", "--recursive", "visits", "back").returncode == 0


def test_a_folder_that_was_not_shredded_has_no_certificate(desk):
    assert "expected a certificate" in desk.refused(2, "certificates", "visits")["message"]


def test_a_certificate_that_nobody_trusted_signed_is_refused(desk):
    desk.done("shred", "visits", "--reason", "p17 asked", "--yes")
    desk.done("keys", "create", "other", "--for", "sign")

    refused = desk.refused(1, "certificates", "visits", "--signed-by", "other")

    assert refused["why"] == "signer_not_accepted"

"""`audit prune` and `audit hold` as people run them: real processes, files and a bucket."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest

from airflow_secure_ml.adapters.sequencer import stop_sequencer
from tests.commands.test_log_keys import Desk
from tests.services.audit.conftest import ALICE, BOB, Installation, chain

DAY_MS = 86_400_000


@pytest.fixture
def desk(tmp_path):
    """Somebody at a log whose first 602 leaves are ten days old, and all others one."""
    home = tmp_path / "home"
    home.mkdir()
    audit = tmp_path / "audit"
    audit.mkdir(mode=0o700)
    site = Installation(audit)
    site.spool.chmod(0o700)
    site.times.now = time.time_ns() // 1_000_000 - 10 * DAY_MS
    site.put(ALICE, 0, chain(ALICE, 600))
    site.run()
    site.times.advance(9 * DAY_MS)
    site.put(BOB, 0, chain(BOB, 300))
    site.run()
    site.sequencer.close()
    site.checkpointer.make()
    site.close()
    found = Desk(
        home,
        AIRFLOW__SECURE_ML__AUDIT_DIR=str(audit),
        AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR=str(site.signer_path),
    )
    found.site = site
    yield found
    stop_sequencer(audit)


def test_old_events_are_archived_then_pruned(desk):
    shelf = desk.path / "shelf"

    done = desk.done(
        "audit", "prune", "--older-than", 5, "--archive", shelf, "--because", "policy 7", "--yes"
    )

    assert done["pruned_below"] == 512
    assert done["archived"] > 0
    with desk.site.reader().whole() as log:
        assert next(iter(log.leaves()))[0] == 512
    assert (shelf / "tile" / "entries" / "001").is_file()
    assert not (shelf / "tile" / "entries" / "002").exists()
    verdict = desk.done("audit", "verify")
    assert (verdict["verdict"], verdict["pruned_below"]) == ("whole", 512)
    [intent, _] = desk.site.events("trail.prune")
    assert intent["more"]["because"] == "policy 7"
    assert intent["more"]["archive"] == shelf.as_uri()


def test_retention_of_the_settings_says_how_old_where_nobody_does(desk):
    desk.environment["AIRFLOW__SECURE_ML__AUDIT_RETENTION_DAYS"] = "5"

    done = desk.done("audit", "prune", "--yes")

    assert done["pruned_below"] == 512
    [intent, _] = desk.site.events("trail.prune")
    assert intent["more"]["because"] == "older than 5 days"


def test_nothing_goes_before_its_retention_is_over(desk):
    desk.environment["AIRFLOW__SECURE_ML__AUDIT_RETENTION_DAYS"] = "400"

    said = desk.refused(2, "audit", "prune", "--older-than", 5, "--yes")

    assert said == (
        "--older-than 5: expected days, from 400 ([secure_ml] audit_retention_days) to 36500"
    )
    assert desk.done("audit", "verify")["pruned_below"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "audit prune: give --older-than DAYS, or set [secure_ml] audit_retention_days"),
        (("--older-than", 0), "--older-than 0: expected days, from 1 to 36500"),
    ],
    ids=["untold", "none"],
)
def test_nothing_goes_by_an_age_that_nobody_gave(desk, words, said):
    assert desk.refused(2, "audit", "prune", *words, "--yes") == said


def test_nothing_goes_while_a_hold_stands(desk):
    desk.done("audit", "hold", "add", "case 7", "--because", "a court asks")

    kept = desk.done("audit", "prune", "--older-than", 5, "--yes")
    listed = desk.done("audit", "hold", "list")
    desk.done("audit", "hold", "release", "case 7", "--because", "it is over")
    gone = desk.done("audit", "prune", "--older-than", 5, "--yes")

    assert kept["pruned_below"] == 0
    assert listed == [{"name": "case 7", "from": 0, "because": "a court asks"}]
    assert gone["pruned_below"] == 512


def test_nothing_goes_without_a_yes(desk):
    answer = desk.run("audit", "prune", "--older-than", 5)

    assert answer.returncode == 2
    assert "nothing was pruned" in answer.stderr
    assert desk.done("audit", "verify")["pruned_below"] == 0


def test_a_log_that_was_tampered_with_is_not_pruned(desk):
    connection = sqlite3.connect(desk.site.database, isolation_level=None)
    connection.execute(
        "UPDATE leaf SET data = replace(data, 'object.open', 'object.seal') WHERE idx = 100"
    )
    connection.close()

    answer = desk.run("audit", "prune", "--older-than", 5, "--yes")

    assert answer.returncode == 1
    assert desk.site.events("trail.prune") == []


def test_old_events_go_to_a_bucket(desk, s3):
    connection = {
        "conn_type": "aws",
        "login": s3.access_key,
        "password": s3.secret_key,
        "extra": {"endpoint_url": s3.url, "verify": str(s3.ca), "region_name": "us-east-1"},
    }
    desk.environment["AIRFLOW_CONN_LAKE"] = json.dumps(connection)
    desk.environment["AIRFLOW__SECURE_ML__AWS_CONN_ID"] = "lake"
    bucket = f"s3://{s3.new_bucket(versioned=True)}/trail"

    done = desk.done("audit", "prune", "--older-than", 5, "--archive", bucket, "--yes")

    assert (done["pruned_below"], done["archived"] > 5) == (512, True)
    assert desk.site.events("trail.prune")[0]["more"]["archive"] == bucket

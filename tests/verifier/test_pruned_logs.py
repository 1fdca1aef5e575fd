"""Both verifiers say the same of a log that was pruned, and of one that only looks like it."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict

import pytest

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.pruning import Hold
from airflow_secure_ml.services.pruning import hold_log, prune_log
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE
from tests.services.audit.conftest import ALICE, BOB, Installation, chain

SAME = ("status", "size", "checked", "root", "checkpoints", "signed_size", "pruned_below", "ends")


@pytest.fixture
def pruned(tmp_path):
    """ALICE's events are gone but for the last 90; BOB's are all there."""
    site = Installation(tmp_path)
    site.put(ALICE, 0, chain(ALICE, 600))
    site.run()
    site.put(BOB, 0, chain(BOB, 300))
    site.run()
    site.start()
    prune_log(site.sequencer, site.checkpointer, site.log, 512, because="it is old")
    yield site
    site.close()


def both(site, outsider):
    site.close()
    ours = asdict(site.verify())
    theirs = outsider.report(site.database, "--keys", site.signer_path / "log_keys")
    assert {name: ours[name] for name in SAME} == {name: theirs[name] for name in SAME}
    assert ours["first_bad"] == theirs["first_bad"]
    return theirs


def attack(site, statement):
    site.close()
    connection = sqlite3.connect(site.database, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_a_pruned_log_is_whole_for_both(pruned, outsider):
    report = both(pruned, outsider)

    assert (report["status"], report["problem"], report["pruned_below"]) == (WHOLE, "", 512)


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("DELETE FROM leaf WHERE idx < 768", 0),
        ("DELETE FROM leaf WHERE idx < 600", 0),
        ("DELETE FROM tile WHERE level = 0 AND n = 1", 256),
        ("DELETE FROM leaf WHERE idx = 700", 700),
    ],
    ids=["more than was said", "within a tile", "a tile too", "one in the middle"],
)
def test_both_name_the_same_first_leaf(pruned, outsider, statement, first):
    attack(pruned, statement)

    report = both(pruned, outsider)

    assert (report["status"], report["first_bad"]) == (TAMPERED, first)


def test_both_find_a_pruning_that_went_past_a_hold(pruned, outsider):
    """Whoever has the sequencer and its key may say it; the hold shows it all the same."""
    pruned.start()
    hold = Hold(name="case 7", from_index=600, because="a court asks")
    hold_log(pruned.sequencer, pruned.checkpointer, pruned.log, hold)
    pruned.start()
    more = {"below": 768, "because": "no reason"}
    pruned.sequencer.record(Fact(act="trail.prune", phase="intent", more=more))
    pruned.checkpointer.make()
    pruned.log.prune(768)

    report = both(pruned, outsider)

    assert report["status"] == TAMPERED
    assert "a hold forbids" in report["problem"]

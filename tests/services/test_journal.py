"""The journal of a secured run records whatever it is told of an error."""

from __future__ import annotations

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.journal import Journal, in_words
from airflow_secure_ml.testing.ports import MemoryAudit

RUN = RunRef(dag="d", run="r", task="t", try_number=1, ti="ti")


def test_a_made_up_reason_hides_no_refusal():
    sink = MemoryAudit()
    journal = Journal(sink, RUN, lambda line: None)
    journal.begin({"operator": "x"})

    journal.refused("object.validate", PolicyError("no", why="because_i_say_so"))
    journal.ended("refused", "because_i_say_so", {})

    assert [(f.act, f.result, f.why) for f in sink.facts[-2:]] == [
        ("object.validate", "refused", "bug"),
        ("task.secure", "refused", "bug"),
    ]


def test_sizes_read_as_a_person_says_them():
    sizes = [0, 999, 1_000, 48_204, 12_582_912, 3_000_000_000, 5_000_000_000_000]

    assert [in_words(size) for size in sizes] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "48 kB",
        "13 MB",
        "3.0 GB",
        "5000 GB",
    ]

"""Hidden values: what stands in the event, and what lies aside."""

from __future__ import annotations

import hashlib

import pytest

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.redaction import check_hide, redact
from airflow_secure_ml.errors import ConfigurationError, FormatError

SALT = bytes(range(16))


def hidden(value):
    # Salted by SALT, written out once more: the layout is forever.
    digest = hashlib.sha256(b"asml/v1/hidden" + b"\x00" + SALT + value.encode()).hexdigest()
    return {"h": digest, "n": len(value.encode())}


def redacted(record, *names):
    return redact(record, names=names, salt=lambda path, value: SALT)


def test_a_persons_name_is_always_hidden():
    record, asides = redacted({"by": "Zoë"})

    assert record == {"by": hidden("Zoë")}
    assert record["by"]["n"] == 4
    assert [aside.value for aside in asides] == ["Zoë"]
    assert "Zoë" not in repr(asides)
    assert canonical.decode(asides[0].encode()) == {
        "h": hidden("Zoë")["h"],
        "salt": "000102030405060708090a0b0c0d0e0f",
        "value": "Zoë",
    }


def test_who_reviews_and_what_they_write_is_always_hidden():
    more = {"assignee": "Zoë", "note": "Zoë knows", "signer": "log"}

    record, asides = redacted({"more": more})

    assert record == {
        "more": {"assignee": hidden("Zoë"), "note": hidden("Zoë knows"), "signer": "log"}
    }
    assert [aside.value for aside in asides] == ["Zoë", "Zoë knows"]


def test_a_text_is_measured_in_bytes():
    record, asides = redacted({"object": {"uri": "ä" * 512, "name": "ä" * 513}})

    assert record == {"object": {"uri": "ä" * 512, "name": hidden("ä" * 513)}}
    assert len(asides) == 1


def test_fields_are_hidden_by_their_path():
    record, _ = redacted(
        {"run": {"dag": "churn", "task": "train"}, "more": {"leases": ["a", "b"], "host": "w"}},
        "run.task",
        "more.leases",
    )

    assert record == {
        "run": {"dag": "churn", "task": hidden("train")},
        "more": {"leases": [hidden("a"), hidden("b")], "host": "w"},
    }


def test_an_object_in_a_list_is_hidden_whole_so_the_event_stays_flat_enough():
    reads = [{"name": "table", "uri": "s3://lake/jane.csv"}, {"name": "x"}]

    record, asides = redacted({"more": {"reads": reads}}, "more.reads.uri")

    text = '{"name":"table","uri":"s3://lake/jane.csv"}'
    assert record == {"more": {"reads": [hidden(text), {"name": "x"}]}}
    assert asides[0].value == text
    assert canonical.encode(record)


def test_what_chains_and_joins_events_is_never_hidden():
    long = "x" * 2000

    record, asides = redacted({"run": {"dag": long, "ti": long}, "of": long})

    assert record == {"run": {"dag": long, "ti": long}, "of": long}
    assert asides == []


@pytest.mark.parametrize("name", ["emitter", "prev", "act", "why", "of", "run.dag", "run.ti"])
def test_hiding_what_must_be_readable_is_refused(name):
    with pytest.raises(ConfigurationError, match=f"audit_hide: {name} cannot be hidden"):
        check_hide(["object.uri", name])


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(FormatError):
        redacted({"by": "\ud800"})

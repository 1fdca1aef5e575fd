"""What an emitter's lines have in common: how long one tries, and the error when it is in vain."""

from __future__ import annotations

import errno

import pytest

from airflow_secure_ml.core.audit.lines import Patience, not_durable


def _fail(patience, error):
    with patience.turn(wait=True):
        raise error


def test_who_waits_tries_until_its_patience_ends():
    patience = Patience(10.0, lambda: 100.0)

    with patience.turn(wait=True) as until:
        pass

    assert until == 110.0


def test_who_does_not_wait_tries_once():
    patience = Patience(10.0, lambda: 100.0)

    with patience.turn(wait=False) as until:
        pass

    assert until == 100.0


def test_who_waited_in_vain_does_not_wait_again_until_it_was_heard():
    patience = Patience(10.0, lambda: 100.0)
    with pytest.raises(OSError, match="nobody"):
        _fail(patience, OSError(errno.EAGAIN, "nobody there"))

    with patience.turn(wait=True) as after_a_miss:
        pass
    with patience.turn(wait=True) as after_a_hit:
        pass

    assert (after_a_miss, after_a_hit) == (100.0, 110.0)


def test_another_error_is_no_miss():
    patience = Patience(10.0, lambda: 100.0)
    with pytest.raises(KeyError):
        _fail(patience, KeyError())

    with patience.turn(wait=True) as until:
        pass

    assert until == 110.0


def test_the_error_says_what_where_and_what_to_do():
    error = not_durable("audit inbox", "db:5432", "it is full", "make room")

    assert str(error) == (
        "audit inbox db:5432: expected events to become durable before the work goes on, "
        "found: it is full; make room"
    )
    assert (error.service, error.why) == ("audit inbox", "audit_unavailable")

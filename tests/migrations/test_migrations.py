"""The steps of the schema: applied once, by their owner, never undone, never changed."""

from __future__ import annotations

import hashlib

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError
from airflow_secure_ml.migrations.applying import (
    DIRECTORY,
    HEAD,
    REVISIONS,
    current_revision,
    migrate,
)
from airflow_secure_ml.migrations.versions import trail_0001

RELEASED = {"trail_0001": "01f437a56b1580d0303b5a20c77850b00e86b7d32f2102d304c4a440a07b8490"}


def test_a_released_step_is_what_it_was():
    text = "\n".join(trail_0001.STATEMENTS).encode()

    assert hashlib.sha256(text).hexdigest() == RELEASED["trail_0001"]


def test_the_steps_are_those_that_alembic_finds():
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    found = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]

    assert found[::-1] == list(REVISIONS)


def test_the_owner_makes_the_tables_once(empty_trail_place):
    owner = empty_trail_place.login("trail_owner")

    assert current_revision(owner) is None
    assert migrate(owner) == ("trail_0001",)
    assert migrate(owner) == ()
    assert current_revision(owner) == HEAD
    assert migrate(empty_trail_place.login("trail_reader")) == ()


def test_who_is_not_the_owner_makes_nothing(empty_trail_place):
    with pytest.raises(ServiceRefusedError):
        migrate(empty_trail_place.login("trail_reader"))

    assert current_revision(empty_trail_place.login("trail_owner")) is None


def test_tables_of_a_later_release_are_left_alone(trail_place):
    trail_place.query("UPDATE asml_trail.version SET version_num = 'trail_9999'")
    try:
        with pytest.raises(ConfigurationError, match="upgrade airflow-secure-ml"):
            migrate(trail_place.login("trail_owner"))
    finally:
        trail_place.query("UPDATE asml_trail.version SET version_num = %s", [HEAD])


def test_a_log_is_not_dropped_by_a_downgrade():
    with pytest.raises(ConfigurationError, match="not dropped"):
        trail_0001.downgrade()

"""The steps of the schema: applied once, by their owner, never undone, never changed."""

from __future__ import annotations

import hashlib

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceRefusedError
from airflow_secure_ml.migrations import applying
from airflow_secure_ml.migrations.applying import (
    DIRECTORY,
    HEAD,
    REVISIONS,
    current_revision,
    migrate,
)
from airflow_secure_ml.migrations.versions import trail_0001, trail_0002
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE
from tests.contracts.audit_stores import PostgresStore, Site
from tests.services.audit.conftest import ALICE, BOB, chain

RELEASED = {
    trail_0001: "01f437a56b1580d0303b5a20c77850b00e86b7d32f2102d304c4a440a07b8490",
    trail_0002: "9585c005833934c4446ee772f25c2ed601bbaded8321b5e54fb4fe7218fb993e",
}


@pytest.mark.parametrize("step", RELEASED, ids=lambda step: step.revision)
def test_a_released_step_is_what_it_was(step):
    text = "\n".join(step.STATEMENTS).encode()

    assert hashlib.sha256(text).hexdigest() == RELEASED[step]


def test_the_steps_are_those_that_alembic_finds():
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    found = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]

    assert found[::-1] == list(REVISIONS)


def test_the_owner_makes_the_tables_once(empty_trail_place):
    owner = empty_trail_place.login("trail_owner")

    assert current_revision(owner) is None
    assert migrate(owner) == ("trail_0001", "trail_0002")
    assert migrate(owner) == ()
    assert current_revision(owner) == HEAD
    assert migrate(empty_trail_place.login("trail_reader")) == ()


@pytest.fixture
def site_of_step_1(empty_trail_place, tmp_path, monkeypatch):
    """A log whose tables an older release made."""
    with monkeypatch.context() as older:
        older.setattr(applying, "HEAD", "trail_0001")
        older.setattr(applying, "REVISIONS", ("trail_0001",))
        assert migrate(empty_trail_place.login("trail_owner")) == ("trail_0001",)
    site = Site(tmp_path, PostgresStore(empty_trail_place))
    yield site
    site.close()


def test_a_log_of_an_older_release_is_written_read_verified_and_brought_up(site_of_step_1, caplog):
    site, place = site_of_step_1, site_of_step_1.store.place
    site.put(ALICE, 0, chain(ALICE, 20))
    site.run()

    assert "pages would be faster with 2" in caplog.text
    assert place.query("SELECT format FROM asml_trail.log") == [(1,)]
    assert site.verify().status == WHOLE
    assert len(site.reader().page(EventQuery(emitter=ALICE, excluded=(("host", "x"),)))) == 20

    site.close()
    site.opened.clear()
    assert migrate(place.login("trail_owner")) == ("trail_0002",)
    site.start()
    site.put(BOB, 0, chain(BOB, 20))
    site.run()

    assert place.query("SELECT format FROM asml_trail.log") == [(2,)]
    assert site.verify().status == WHOLE
    assert site.of(ALICE) == site.of(BOB) == list(range(20))


@pytest.mark.parametrize("number", [2, 3])
def test_tables_of_another_format_than_the_log_says_are_noticed(site_of_step_1, number):
    site = site_of_step_1
    site.put(ALICE, 0, chain(ALICE, 5))
    site.run()
    site.close()
    site.opened.clear()

    site.store.place.query("UPDATE asml_trail.log SET format = %s", [number])

    assert site.verify().status == TAMPERED
    with pytest.raises(AuditLogError, match=r"not as this release makes it|is not known"):
        site.store.writer(site.origin)


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
    with pytest.raises(ConfigurationError, match="not changed back"):
        trail_0002.downgrade()

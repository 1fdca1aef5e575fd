"""Two sequencers, lost sessions, and servers that do not keep what they confirm."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.postgres_audit import (
    Login,
    PostgresAuditWriter,
    parse_address,
    schema,
)
from airflow_secure_ml.adapters.postgres_audit.connecting import connect
from airflow_secure_ml.core.audit.ports import Batch
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.migrations.applying import migrate
from tests.contracts.test_audit_log import LEAVES, ORIGIN, append, leaf

pytestmark = pytest.mark.postgres
END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'trail_sequencer' AND datname = current_database()"
)


@pytest.fixture
def log(trail_place):
    with PostgresAuditWriter(trail_place.login(), ORIGIN) as writer:
        yield writer


def test_a_second_sequencer_waits_until_the_first_one_is_gone(log, trail_place):
    with pytest.raises(ServiceUnavailableError, match="another sequencer"):
        PostgresAuditWriter(trail_place.login(), ORIGIN)

    log.close()

    with PostgresAuditWriter(trail_place.login(), ORIGIN) as second:
        assert second.edge().size == 0


def test_who_lost_its_session_is_told_so_before_it_writes_again(log, trail_place):
    append(log, LEAVES)
    trail_place.query(END)

    with pytest.raises(ServiceUnavailableError):
        append(log, [leaf(6, time=1)])

    assert log.edge().size == 6
    append(log, [leaf(6, time=1)])
    assert log.edge().size == 7


def test_two_that_both_believe_to_have_the_log_do_not_both_append(log, trail_place):
    append(log, LEAVES)
    old = log.edge()
    # The lock is lost with the session; another one took over in between.
    trail_place.query(END)
    with pytest.raises(ServiceUnavailableError):
        log.edge()
    with PostgresAuditWriter(trail_place.login(), ORIGIN) as other:
        append(other, [leaf(6, time=1)])
        with pytest.raises(ServiceUnavailableError, match="another sequencer"):
            log.edge()
    late = leaf(7, time=2)

    with pytest.raises(AuditLogError, match="two sequencers"):
        log.append(Batch(old_size=old.size, leaves=[late], edge=old.append([late.hash])))


def test_changed_tables_are_not_written_to(log, trail_place):
    log.close()
    trail_place.query("CREATE RULE r AS ON INSERT TO asml_trail.leaf DO INSTEAD NOTHING")

    with pytest.raises(AuditLogError, match="relation leaf r is not as this release makes it"):
        PostgresAuditWriter(trail_place.login(), ORIGIN)


def test_what_a_release_expects_is_what_its_steps_make(trail_place):
    connection = connect(trail_place.login("trail_reader"), writes=False)
    found = schema.objects(connection)
    connection.close()

    assert found == schema.expected_objects(schema.FORMATS[-1])


def test_a_login_that_asks_for_no_sync_gets_it_all_the_same(trail_place):
    trail_place.query("ALTER ROLE trail_sequencer SET synchronous_commit = off")
    try:
        with PostgresAuditWriter(trail_place.login(), ORIGIN) as writer:
            (found,) = writer._session().execute("SHOW synchronous_commit").fetchone()
    finally:
        trail_place.query("ALTER ROLE trail_sequencer RESET synchronous_commit")

    assert found == "on"


def test_a_server_that_does_not_sync_is_refused(postgres, tmp_path):
    passfile = tmp_path / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:*:{postgres.password}\n")
    address = parse_address(f"postgresql://admin@127.0.0.1:{postgres.port}/warehouse")
    login = Login(address=address, passfile=passfile)
    migrate(login)

    try:
        with pytest.raises(ConfigurationError, match="fsync = off"):
            PostgresAuditWriter(login, ORIGIN)
    finally:
        postgres.query("DROP SCHEMA asml_trail CASCADE")


def test_passwords_stay_where_they_are(trail_place, tmp_path):
    login = trail_place.login()
    open_to_all = tmp_path / "open"
    open_to_all.write_text("x")
    open_to_all.chmod(0o644)
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("*:*:*:*:canary-4711\n")

    with pytest.raises(ConfigurationError, match="mode 0644"):
        PostgresAuditWriter(Login(address=login.address, passfile=open_to_all), ORIGIN)
    with pytest.raises(ServiceRefusedError, match="not accepted") as caught:
        PostgresAuditWriter(Login(address=login.address, passfile=wrong), ORIGIN)
    with pytest.raises(ConfigurationError, match="audit_store_passfile"):
        PostgresAuditWriter(Login(address=login.address), ORIGIN)
    assert "canary" not in str(caught.value) + repr(caught.value.__cause__)

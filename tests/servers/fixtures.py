"""The real servers as fixtures: one of each a test session, started when first asked for.

A test that asks for one gets the marker of its server, so it is skipped aloud where the server is
missing. With pytest-xdist each worker process has its own.
"""

from __future__ import annotations

import time

import pytest

# Vault revokes in the background; a token or lease that lives longer was left by a test.
ENDED_S, POLL_S = 90.0, 0.1


@pytest.fixture(scope="session")
def vault_binary():
    """The program of Vault or OpenBao, for tests that run one of their own."""
    from tests.servers import build

    return build.find(build.SERVERS["vault"])


@pytest.fixture(scope="session")
def vault(vault_binary, tmp_path_factory):
    """A running Vault (`dags_examples.demo.vault_server.RunningVault`), unsealed, over TLS.

    A test leaves neither tokens nor leases behind: at the end of the session none must be left.
    """
    from dags_examples.demo.vault_server import RunningVault

    with RunningVault(binary=vault_binary, folder=tmp_path_factory.mktemp("vault")) as running:
        yield running
        left = _left(running)
    assert left == [], "tokens and leases that tests left on Vault"


@pytest.fixture(scope="session")
def s3_binary():
    """The program of versitygw, for tests that run one of their own."""
    from tests.servers import build

    return build.find(build.SERVERS["s3"])


@pytest.fixture(scope="session")
def s3(s3_binary, tmp_path_factory):
    """A running S3 server (`dags_examples.demo.s3_server.RunningS3`), over TLS.

    Tests make buckets of their own. No upload may be left open at the end of the session.
    """
    from dags_examples.demo.s3_server import RunningS3

    with RunningS3(binary=s3_binary, folder=tmp_path_factory.mktemp("s3")) as running:
        yield running
        left = sorted(running.uploads())
    assert left == [], "uploads that tests left open in S3"


@pytest.fixture(scope="session")
def litewitness_binary():
    """The program of litewitness, a C2SP witness that is not ours; whoever needs one runs it."""
    from tests.servers import build

    return build.find(build.SERVERS["litewitness"])


@pytest.fixture(scope="session")
def fsck_binary():
    """Tessera's program that derives a whole tlog-tiles log again, read over HTTP."""
    from tests.servers import build

    return build.find(build.SERVERS["fsck"])


@pytest.fixture(scope="session")
def sumdb_binary():
    """The program of `tests/interop/sumdb`: Go's packages for checksum databases check ours."""
    from tests.servers import build

    return build.find(build.SERVERS["sumdb"])


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A running PostgreSQL (`dags_examples.demo.postgres_server.RunningPostgres`)."""
    from dags_examples.demo.postgres_server import RunningPostgres, find_postgres

    folder = tmp_path_factory.mktemp("postgres")
    with RunningPostgres(binaries=find_postgres(), folder=folder) as running:
        yield running


@pytest.fixture(scope="session")
def trail_server(tmp_path_factory):
    """A PostgreSQL that keeps what it confirms (`tests.servers.trail_place.TrailServer`)."""
    from tests.servers.trail_place import running

    with running(tmp_path_factory.mktemp("trail_server")) as server:
        yield server


@pytest.fixture
def trail_place(trail_server):
    """A database with an empty audit log (`tests.servers.trail_place.TrailPlace`)."""
    return trail_server.fresh()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def trail_store(request, tmp_path):
    """Where a log lies, in a file and in a database (`tests.contracts.audit_stores`)."""
    from tests.contracts.audit_stores import PostgresStore, SqliteStore

    if request.param == "sqlite":
        return SqliteStore(tmp_path)
    return PostgresStore(request.getfixturevalue("trail_place"))


@pytest.fixture
def trail_log(trail_store):
    """The writer of such a log, with six leaves in it."""
    from tests.contracts.audit_stores import LEAVES, ORIGIN, append

    with trail_store.writer(ORIGIN) as writer:
        append(writer, LEAVES)
        yield writer


@pytest.fixture
def empty_trail_place(trail_server):
    """A database without the tables of an audit log: `airflow db migrate` has to make them."""
    place = trail_server.empty()
    yield place
    trail_server.drop(place)


@pytest.fixture(scope="session")
def ldap_server(tmp_path_factory):
    """A running slapd with one user (`tests.servers.ldap.RunningLdap`)."""
    from tests.servers.ldap import RunningLdap

    with RunningLdap(folder=tmp_path_factory.mktemp("ldap")) as running:
        yield running


@pytest.fixture(scope="session")
def vault_database(vault, postgres):
    """Vault's database engine over PostgreSQL (`tests.servers.vault_setup.Database`)."""
    from tests.servers.vault_setup import Database

    return Database.mount(vault, postgres)


@pytest.fixture
def vault_proxy(vault, tmp_path):
    """A proxy before Vault that can misbehave (`tests.servers.proxy.Proxy`)."""
    from tests.servers.proxy import Proxy

    with Proxy.before(vault, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def s3_proxy(s3, tmp_path):
    """A proxy before S3 that can misbehave (`tests.servers.s3_proxy`)."""
    from tests.servers.s3_proxy import before

    with before(s3, tmp_path) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory):
    """A token in software (`tests.servers.softhsm.SoftHsm`), this process's only one."""
    from tests.servers.softhsm import SoftHsm

    hsm = SoftHsm(tmp_path_factory.mktemp("softhsm"), ("team", "spare"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hsm.environment.items():
            patch.setenv(name, value)
        yield hsm


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """A Spark session in this machine's JVM, with the class that takes lent Parquet keys."""
    from tests.servers.spark import running_spark

    with running_spark(tmp_path_factory.mktemp("spark")) as session:
        yield session


def _left(running):
    deadline = time.monotonic() + ENDED_S
    while (left := running.left()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left

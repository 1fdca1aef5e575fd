"""A real PostgreSQL in one folder: make its cluster, start it, ask it, stop it.

The loopback interface alone, a free port, passwords by SCRAM. PostgreSQL refuses to run as root:
for root it runs as the user `postgres`, or `nobody`, in a folder that this user can reach.
For tests and the demo: unless told otherwise, nothing is flushed to the disk, so a power cut loses
the cluster.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dags_examples.demo.certificates import write_private
from dags_examples.demo.kept_programs import KeptPrograms, ServerFailedError, start_on_free_ports

START_S = 60.0
INSTALLED = Path("/usr/lib/postgresql")
# No socket in the file system: its folder would have to exist, and be guarded.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


@dataclass(slots=True, kw_only=True)
class RunningPostgres:
    """A PostgreSQL that runs for as long as the block lasts.

    Attributes:
        binaries: The folder of `initdb` and `postgres`.
        folder: Where its log lies; its cluster too, unless another user has to run it. A cluster
            that one who was killed left there is removed at the start.
        database: A database of that name is made.
        admin: The name of its superuser.
        password: The superuser's.
        port: Where it listens; 0 until it was started.
        options: Settings of the server besides those of every one.
    """

    binaries: Path
    folder: Path
    database: str = "warehouse"
    admin: str = "admin"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    _cluster: Path | None = field(default=None, repr=False)
    _programs: KeptPrograms | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The server's first process."""
        assert self._cluster is not None
        return int((self._cluster / "data" / "postmaster.pid").read_text().splitlines()[0])

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._link.is_symlink():
            self._remove(self._link.resolve())
        try:
            self._make_cluster()
            start_on_free_ports(1, self._start_at, stop=self._stop_programs)
            self.query(f'CREATE DATABASE "{self.database}"', database="postgres")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        user: str = "",
        password: str = "",
        database: str = "",
    ) -> list[tuple[Any, ...]]:
        """Run one statement in a connection of its own; the rows of its answer.

        Raises:
            psycopg.Error: It was refused, or the server was not reached.
        """
        import psycopg

        with psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=database or self.database,
            user=user or self.admin,
            password=password or self.password,
            autocommit=True,
            connect_timeout=10,
        ) as connection:
            cursor = connection.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def logins(self) -> list[str]:
        """The roles that may log in, besides the superuser: what Vault made and did not drop."""
        found = self.query(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname <> %s ORDER BY 1",
            [self.admin],
        )
        return [name for (name,) in found]

    def stop(self) -> None:
        """Stop it, whoever is connected, and remove its cluster."""
        running, self._programs = self._programs, None
        if running is not None:
            self._hurry()
            running.stop()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            self._remove(cluster)

    @property
    def _link(self) -> Path:
        return self.folder / "cluster"

    def _remove(self, cluster: Path) -> None:
        shutil.rmtree(cluster, ignore_errors=True)
        self._link.unlink(missing_ok=True)

    def _hurry(self) -> None:
        """Ask for a stop that waits for no client; what the keeper sends waits for all."""
        # The file is gone when the server ended by itself.
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.pid, signal.SIGINT)

    def _make_cluster(self) -> None:
        user = _server_user()
        above = self.folder if user is None else _open_folder()
        cluster = self._cluster = Path(tempfile.mkdtemp(prefix="postgres-", dir=above))
        self._link.symlink_to(cluster)
        password_file = cluster / "password"
        write_private(password_file, self.password.encode())
        if user is not None:
            for owned in (cluster, password_file):
                os.chown(owned, user.pw_uid, user.pw_gid)
        done = subprocess.run(
            [
                *_as_user(user), str(self.binaries / "initdb"), "--pgdata", str(cluster / "data"),
                "--username", self.admin, "--pwfile", str(password_file),
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync",
            ],
            cwd=cluster, capture_output=True, text=True, check=False, start_new_session=True,
        )  # fmt: skip
        password_file.unlink()
        if done.returncode:
            raise ServerFailedError(f"initdb failed\n{done.stdout}{done.stderr}"[-3000:])

    def _start_at(self, port: int) -> None:
        self.port = port
        self._start()

    def _stop_programs(self) -> None:
        if self._programs is not None:
            self._programs.stop()

    def _start(self) -> None:
        assert self._cluster is not None
        options = [f"-c{name}={value}" for name, value in (OPTIONS | self.options).items()]
        command = [
            *_as_user(_server_user()), str(self.binaries / "postgres"),
            "-D", str(self._cluster / "data"), "-p", str(self.port), *options,
        ]  # fmt: skip
        self._programs = KeptPrograms(programs={"postgres": command}, folder=self.folder)
        self._programs.start()
        self._programs.wait(self._answers, "PostgreSQL answers", START_S)

    def _answers(self) -> bool:
        import psycopg

        try:
            return self.query("SELECT 1", database="postgres") == [(1,)]
        except psycopg.OperationalError:
            return False


def find_postgres() -> Path | None:
    """The folder of the newest PostgreSQL server's programs; None where there is none."""
    folders = [path.parent for path in INSTALLED.glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _server_user() -> pwd.struct_passwd | None:
    """Who must run the server; None: whoever runs this."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerFailedError("PostgreSQL: no user postgres or nobody, and it does not run as root")


def _as_user(user: pwd.struct_passwd | None) -> list[str]:
    if user is None:
        return []
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def _open_folder() -> Path:
    """A folder that every user can enter."""
    for name in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        folder = Path(name).resolve()
        if all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents)):
            return folder
    raise ServerFailedError("PostgreSQL: no temporary folder that its user could enter")

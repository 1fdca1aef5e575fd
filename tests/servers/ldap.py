"""A real slapd in one folder, with one user, for logins by LDAP.

The loopback interface alone, a free port, a database of its own. Nobody may read without a bind.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from dags_examples.demo.certificates import write_private
from dags_examples.demo.kept_programs import KeptPrograms, ServerFailedError, free_ports

SLAPD = Path("/usr/sbin/slapd")
START_S = 30.0
TRIES = 3
SUFFIX = "dc=example,dc=test"
CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid

database mdb
suffix "{suffix}"
directory {folder}/data
maxsize 10485760
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
"""
ENTRIES = """\
dn: {suffix}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,{suffix}
objectClass: organizationalUnit
ou: people

dn: uid={user},ou=people,{suffix}
objectClass: inetOrgPerson
uid: {user}
cn: {user}
sn: {user}
userPassword: {password_hash}
"""


@dataclass(slots=True, kw_only=True)
class RunningLdap:
    """An LDAP server that runs for as long as the block lasts.

    Attributes:
        folder: Where everything of it lies.
        user: The one who may log in, below `people`.
        password: That user's.
        people: The distinguished name that users lie below.
        port: Where it listens; 0 until it was started.
    """

    folder: Path
    user: str = "alice"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    people: str = f"ou=people,{SUFFIX}"
    port: int = 0
    _programs: KeptPrograms | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"ldap://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._make()
        for left in reversed(range(TRIES)):
            (self.port,) = free_ports(1)
            try:
                self._start()
                return self
            except BaseException as error:
                self.stop()
                # Another process may have taken the port meanwhile.
                if not left or not isinstance(error, ServerFailedError):
                    raise
        raise AssertionError("unreachable")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it; a second time does nothing."""
        running, self._programs = self._programs, None
        if running is not None:
            running.stop()

    def _make(self) -> None:
        (self.folder / "data").mkdir(mode=0o700)
        (self.folder / "slapd.conf").write_text(CONFIG.format(folder=self.folder, suffix=SUFFIX))
        entries = ENTRIES.format(
            suffix=SUFFIX, user=self.user, password_hash=_hashed(self.password.encode())
        )
        write_private(self.folder / "entries.ldif", entries.encode())
        # The server's own program, under the name that makes it load entries.
        done = subprocess.run(
            ["slapadd", "-f", "slapd.conf", "-l", "entries.ldif"],
            executable=SLAPD, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ServerFailedError(f"slapadd failed\n{done.stderr}")

    def _start(self) -> None:
        # Level 0 logs nothing; the option itself keeps it in the foreground.
        command = [str(SLAPD), "-h", self.url, "-f", str(self.folder / "slapd.conf"), "-d", "0"]
        self._programs = KeptPrograms(programs={"slapd": command}, folder=self.folder)
        self._programs.start()
        self._programs.wait(self._answers, "slapd listens", START_S)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


def _hashed(password: bytes) -> str:
    salt = secrets.token_bytes(8)
    # SHA-1 is what slapd offers without a module; the password is 24 random bytes.
    digest = hashlib.sha1(password + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()

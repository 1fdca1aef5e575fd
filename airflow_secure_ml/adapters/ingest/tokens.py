"""Whose tokens open the ingest end point: one for everybody, or one for each team.

A file of the first kind is the senders' own. One of the second kind holds no secret: lines
`name sha256:digest`, and what a team sends carries its name.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from airflow_secure_ml.adapters.ingest.line import is_token, read_private
from airflow_secure_ml.errors import FormatError

MAX_FILE_BYTES: Final = 64 << 10
# What a stamp holds as who logged in.
TEAM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_LINE: Final = re.compile(rf"({TEAM.pattern}) +sha256:([0-9a-f]{{64}})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who holds a token.

    Attributes:
        team: Its name; None: the one token that all have.
    """

    team: str | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a file says.

    Attributes:
        lines: (team, SHA-256 of its token).
    """

    lines: tuple[tuple[str | None, bytes], ...]

    def sender(self, authorization: str) -> Sender | None:
        """Who sends this header; None: nobody who may."""
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = None
        # Through all of them: how long it takes tells nothing.
        for team, digest in self.lines:
            if hmac.compare_digest(given, digest) and scheme == "Bearer":
                found = Sender(team=team)
        return found


def token_digest(token: str) -> str:
    """What stands in a team's line after `sha256:`."""
    return hashlib.sha256(token.encode("ascii")).hexdigest()


def read_tokens(path: Path) -> Tokens:
    """Read the end point's file.

    Raises:
        OSError: It is not there, or others can read or change it.
        FormatError: It is of neither kind, or names a team twice.
    """
    return parse_tokens(read_private(path, MAX_FILE_BYTES))


def parse_tokens(data: bytes) -> Tokens:
    """The same of a file's bytes."""
    if is_token(data.strip()):
        token = data.strip().decode("ascii")
        return Tokens(((None, bytes.fromhex(token_digest(token))),))
    found: dict[str, bytes] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] in found:
            raise FormatError(
                f"line {number}: expected `team sha256:digest`, each team once, as "
                "`secure-ml audit ingest-token --team` writes it; or one token alone"
            )
        found[match[1]] = bytes.fromhex(match[2])
    if not found:
        raise FormatError("no token in it; make one by `secure-ml audit ingest-token`")
    return Tokens(tuple(found.items()))

"""`audit ingest-token`: make the secret that lets workers hand events over to an API server.

It goes into a file and nowhere else: a terminal is read, and kept, by others.
"""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from airflow_secure_ml.adapters.ingest.line import read_private
from airflow_secure_ml.adapters.ingest.tokens import (
    MAX_FILE_BYTES,
    TEAM,
    parse_tokens,
    token_digest,
)
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.audit.ingesting import TOKEN_BYTES
from airflow_secure_ml.errors import ConfigurationError, FormatError

_MORE = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def ingest_token(arguments: argparse.Namespace, session: Session) -> Result:
    """Write a new token to `audit_ingest_token_path`, or a team's to a file of its own."""
    path = session.settings.audit_ingest_token_path
    if path is None:
        raise ConfigurationError(
            "[secure_ml] audit_ingest_token_path: empty; set it to where the token is to lie"
        )
    if (arguments.team is None) != (arguments.to is None):
        raise ConfigurationError("audit ingest-token: --team NAME and --to FILE go together")
    if arguments.team is not None:
        return _team_token(arguments.team, Path(arguments.to), path)
    _write_new(path, secrets.token_hex(TOKEN_BYTES), "[secure_ml] audit_ingest_token_path: ")
    line = f"made {path}; give it, as a secret, to the API servers and to the workers"
    return Result(data={"path": str(path)}, lines=[line])


def _team_token(team: str, made: Path, path: Path) -> Result:
    """Make a team's token, and let it in by a line without a secret."""
    if not TEAM.fullmatch(team):
        raise ConfigurationError(
            f"--team {team[:63]!r}: expected letters, digits, `_`, `.`, `-`, at most 63"
        )
    token = secrets.token_hex(TOKEN_BYTES)
    line = f"{team} sha256:{token_digest(token)}\n".encode("ascii")
    try:
        known = read_private(path, MAX_FILE_BYTES) if path.exists() else b""
        # Refused before anything is made: a file of the other kind, or a team that has a token.
        is_one = bool(known.strip()) and parse_tokens(known).lines[0][0] is None
        if is_one:
            raise ConfigurationError(f"{path}: it holds one token for all; set another file")
        parse_tokens(known + line)
    except (OSError, FormatError) as error:
        raise ConfigurationError(f"[secure_ml] audit_ingest_token_path: {path}: {error}") from error
    _write_new(made, token, "--to ")
    with os.fdopen(os.open(path, _MORE, 0o600), "ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    told = f"made {made}; give it, as a secret, to the workers of {team}, which {path} lets in"
    return Result(data={"path": str(made), "team": team}, lines=[told])


def _write_new(path: Path, token: str, what: str) -> None:
    try:
        descriptor = os.open(path, _NEW, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{what}{path}: {error.strerror}; expected a new file in a directory that is there; "
            "remove the old token first"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(descriptor)

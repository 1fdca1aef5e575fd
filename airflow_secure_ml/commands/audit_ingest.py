"""`audit ingest-token`: make the secret that lets workers hand events over to an API server.

It goes into a file and nowhere else: a terminal is read, and kept, by others.
"""

from __future__ import annotations

import argparse
import os
import secrets

from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.audit.ingesting import TOKEN_BYTES
from airflow_secure_ml.errors import ConfigurationError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def ingest_token(arguments: argparse.Namespace, session: Session) -> Result:
    """Write a new token to `audit_ingest_token_path`, which is not there yet."""
    path = session.settings.audit_ingest_token_path
    if path is None:
        raise ConfigurationError(
            "[secure_ml] audit_ingest_token_path: empty; set it to where the token is to lie"
        )
    try:
        descriptor = os.open(path, _NEW, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"[secure_ml] audit_ingest_token_path: {path}: {error.strerror}; expected a new file "
            "in a directory that is there; remove the old token first"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(TOKEN_BYTES) + "\n")
        file.flush()
        os.fsync(descriptor)
    line = f"made {path}; give it, as a secret, to the API servers and to the workers"
    return Result(data={"path": str(path)}, lines=[line])

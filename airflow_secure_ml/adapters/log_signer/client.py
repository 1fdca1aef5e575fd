"""The sequencer's side of a signer that is a process of its own.

It asks and holds what it gets against what it asked for. It adopts nothing and makes no keys:
that is done where the signer's directory is.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from airflow_secure_ml.adapters.log_signer.wire import (
    Answer,
    Request,
    parse_answer,
    peer_uid,
    receive,
    send,
)
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, parse_checkpoint, parse_note
from airflow_secure_ml.core.audit.log_key import LogKey
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    FormatError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

# A key that lies elsewhere may take its time; the sequencer goes on sequencing after this.
ANSWER_S = 30.0


class SocketSigner:
    """A CheckpointSigner that asks another process.

    Args:
        path: Its socket. Only the signer's user may make files beside it.
        answer_s: How long an answer may take, seconds.
    """

    def __init__(self, path: Path, *, answer_s: float = ANSWER_S) -> None:
        self._path, self._answer_s = path, answer_s
        self._origin: str | None = None

    @property
    def origin(self) -> str:
        """The log that it signs for; asked once.

        Raises:
            ServiceUnavailableError: It does not answer.
        """
        if self._origin is None:
            self._ask(Request(ask="last"))
        return self._origin or ""

    def last(self) -> tuple[int, bytes]:
        """Size and root of the last checkpoint signed; errors as `sign`."""
        found, _ = self._ask(Request(ask="last"))
        return found.size, found.root

    def successors(self) -> tuple[LogKey, ...]:
        """The keys that wait for the log to be handed over to them; errors as `sign`."""
        _, answer = self._ask(Request(ask="last"))
        return tuple(answer.successors)

    def sign(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """Have a tree signed that extends the last one.

        Raises:
            AuditLogError: It does not, or the signer does not know what it signed last.
            ServiceUnavailableError: No signer answers.
            ServiceRefusedError: It refuses this process, or answered something else.
        """
        request = Request(ask="sign", origin=self.origin, size=size, root=root, proof=proof)
        return self._signed(request)

    def hand_over(
        self, size: int, root: bytes, proof: Sequence[bytes], leaf: bytes, path: Sequence[bytes]
    ) -> str:
        """Have a tree signed by the keys in use for the last time; errors as `sign`."""
        request = Request(
            ask="hand_over",
            origin=self.origin,
            size=size,
            root=root,
            proof=proof,
            leaf=leaf,
            path=path,
        )
        return self._signed(request)

    def adopt(self, size: int, root: bytes) -> str:
        """Refuse: a person does that where the signer's directory is.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            f"{self._path}: expected the signer's directory; stop the signer, and run `secure-ml "
            "audit adopt` as a user who may read that directory and the log"
        )

    def _signed(self, request: Request) -> str:
        found, answer = self._ask(request)
        if (found.size, found.root) != (request.size, request.root):
            raise self._refused(f"signed {found.size} leaves, or another root, than it was asked")
        return answer.note

    def _ask(self, request: Request) -> tuple[Checkpoint, Answer]:
        try:
            answer = parse_answer(self._exchange(request.encode()))
            if answer.error:
                raise self._error(answer)
            found = parse_checkpoint(parse_note(answer.note).text)
        except FormatError as error:
            raise self._refused(f"answered what it should not: {error}") from error
        if self._origin not in (None, found.origin):
            raise self._refused(f"speaks for {found.origin}, before for {self._origin}")
        self._origin = found.origin
        return found, answer

    def _exchange(self, data: bytes) -> bytes:
        until = time.monotonic() + self._answer_s
        try:
            owner = os.stat(self._path.parent)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._answer_s)
                connection.connect(str(self._path))
                # Who else could make a socket there could pass for the signer.
                if owner.st_mode & 0o022 or peer_uid(connection) != owner.st_uid:
                    raise self._refused(
                        f"expected a process of uid {owner.st_uid}, who alone may write to "
                        f"{self._path.parent}, found uid {peer_uid(connection)} and mode "
                        f"{owner.st_mode & 0o777:04o}"
                    )
                send(connection, data, until=until)
                return receive(connection, until=until)
        except OSError as error:
            raise ServiceUnavailableError(
                service="signer",
                action=f"answer at {self._path}",
                reason=error.strerror or str(error),
            ) from error

    def _error(self, answer: Answer) -> Exception:
        if answer.error == "AuditLogError":
            return AuditLogError(answer.message, why=answer.why)
        if answer.error == "ServiceUnavailableError":
            return ServiceUnavailableError(answer.message, service="signer", action="sign")
        return self._refused(answer.message)

    def _refused(self, reason: str) -> ServiceRefusedError:
        return ServiceRefusedError(service="signer", action=f"sign at {self._path}", reason=reason)

"""The signer's side of the socket: who may ask, for how long, and what they get.

Clients are those whose uid is listed, as the kernel tells it; what they say is checked by
`LogSigner` as if they were hostile, since a sequencer that was taken over is.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_secure_ml.adapters.log_signer.files import LAST_FILE, read_private
from airflow_secure_ml.adapters.log_signer.signer import LogSigner
from airflow_secure_ml.adapters.log_signer.wire import (
    Answer,
    Request,
    parse_request,
    peer_uid,
    receive,
    send,
)
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    SecureMLError,
    ServiceUnavailableError,
)

log = logging.getLogger(__name__)

PROGRAM_LOCK_FILE = "signer.lock"
# One sequencer asks once a second; whoever opens more only waits.
MAX_CONNECTIONS = 16
BACKLOG = 128
ASK_S = 5.0
POLL_S = 0.2
# Of `sun_path`, without its last NUL.
MAX_PATH_BYTES = 107


class SignerServer:
    """Answers on a socket until it is told to stop.

    Args:
        signer: What has the keys.
        record_dir: Its directory, where `last` is.
        uids: Who may ask.
        ask_s: How long a client may take to ask and to take its answer, seconds each.
    """

    def __init__(
        self,
        signer: LogSigner,
        record_dir: Path,
        uids: Collection[int],
        *,
        ask_s: float = ASK_S,
    ) -> None:
        self._signer, self._directory = signer, record_dir
        self._uids, self._ask_s = frozenset(uids), ask_s
        # The directory's lock keeps other processes away, and not other threads.
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def serve(self, listener: socket.socket, stop: Callable[[], bool]) -> None:
        """Answer one question a connection; returns when `stop` says so."""
        listener.settimeout(POLL_S)
        while not stop():
            # Taken first: what nobody can be spared for waits in the kernel's queue.
            if not self._places.acquire(timeout=POLL_S):
                continue
            try:
                connection, _ = listener.accept()
            except OSError:
                self._places.release()
                continue
            self._begin(connection)
        # Whoever signs now is let finish.
        with self._turn:
            return

    def _begin(self, connection: socket.socket) -> None:
        try:
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()
        except RuntimeError as error:
            # No thread that would give the place back; whoever asked asks again.
            log.warning("a client is sent away: %s", error)
            connection.close()
            self._places.release()

    def _attend(self, connection: socket.socket) -> None:
        try:
            with connection:
                uid = peer_uid(connection)
                if uid not in self._uids:
                    log.warning("uid %d may not ask this signer", uid)
                    return
                until = time.monotonic() + self._ask_s
                answer = self._answer(receive(connection, until=until))
                send(connection, answer.encode(), until=time.monotonic() + self._ask_s)
        except (SecureMLError, OSError) as error:
            log.warning("a client went wrong: %s", error)
        finally:
            self._places.release()

    def _answer(self, data: bytes) -> Answer:
        try:
            with self._turn:
                return self._do(parse_request(data))
        except SecureMLError as error:
            log.warning("refused: %s", error)
            name = type(error).__name__
            return Answer(error=name, why=error.why, message=str(error))
        except OSError as error:
            log.warning("the signer's directory: %s", error)
            text = f"its directory: {error.strerror}"
            return Answer(error=ServiceUnavailableError.__name__, why="bug", message=text)

    def _do(self, request: Request) -> Answer:
        signer = self._signer
        if request.ask == "last":
            # Verified by this, and then told as it is.
            signer.last()
            note = read_private(self._directory / LAST_FILE)
            return Answer(note=note, successors=signer.successors())
        if request.origin != signer.origin:
            raise AuditLogError(
                f"asked to sign {request.origin!a:.200}, this signer's log is {signer.origin}"
            )
        if request.ask == "sign":
            note = signer.sign(request.size, request.root, request.proof)
        else:
            note = signer.hand_over(
                request.size, request.root, request.proof, request.leaf, request.path
            )
            log.info("handed over at %d leaves", request.size)
        return Answer(note=note, successors=signer.successors())


@contextmanager
def listening(path: Path, *, is_shared: bool) -> Iterator[socket.socket]:
    """A socket to listen at, gone again afterwards.

    Args:
        path: Where; its directory is this user's, and nobody else may write to it.
        is_shared: Whether other users may connect at all.

    Raises:
        ConfigurationError: The directory is not so, or something else lies there.
    """
    _check_place(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # What a killed signer left: only one at a time gets here.
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o666 if is_shared else 0o600)
        listener.listen(BACKLOG)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


@contextmanager
def only_program(directory: Path) -> Iterator[None]:
    """Be the only signer over a directory.

    Raises:
        ConfigurationError: Another one runs.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(directory / PROGRAM_LOCK_FILE, flags, 0o600)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"{directory}: another signer runs; stop that first"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _check_place(path: Path) -> None:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigurationError(
            f"{path}: longer than {MAX_PATH_BYTES} bytes, which no socket takes"
        )
    try:
        found = os.stat(path.parent)
    except OSError as error:
        raise ConfigurationError(f"{path.parent}: {error.strerror}; make it") from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ConfigurationError(
            f"{path.parent}: mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}; "
            f"expected uid {os.geteuid()}, and that nobody else may write there: who can passes "
            "for the signer"
        )
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ConfigurationError(f"{path}: expected a socket or nothing, found something else")

"""The signer over its socket: what it does for a sequencer, and not for anybody else."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.log_signer import (
    LogSigner,
    files,
    init_log,
    prepare_successors,
    wire,
)
from airflow_secure_ml.adapters.log_signer.client import SocketSigner
from airflow_secure_ml.adapters.log_signer.serving import (
    MAX_CONNECTIONS,
    SignerServer,
    listening,
    only_program,
)
from airflow_secure_ml.adapters.log_signer.wire import Answer, Request, parse_answer, parse_request
from airflow_secure_ml.core.audit.checkpoint import open_checkpoint, parse_log_keys
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT, consistency_proof, leaf_hash, root_of
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    FormatError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "signer_wire"
LEAVES = [leaf_hash(bytes([n])) for n in range(12)]
DEADLINE_S = 20


def root(size):
    return root_of(LEAVES[:size])


def proof(old, new):
    return consistency_proof(old, new, lambda lv, n: root_of(LEAVES[n << lv : (n + 1) << lv]))


class Served:
    """A signer's directory and a server over it, in threads of this process."""

    def __init__(self, path, *, uids=None, ask_s=5.0):
        self.directory, self.run = path / "signer", path / "run"
        self.run.mkdir(mode=0o700)
        self.socket = self.run / "signer.sock"
        self.origin = init_log(self.directory, "example.org")
        self.stopped = threading.Event()
        self.uids = {os.geteuid()} if uids is None else uids
        self.server = SignerServer(
            LogSigner(self.directory), self.directory, self.uids, ask_s=ask_s
        )
        self.is_ready = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        assert self.is_ready.wait(DEADLINE_S)

    def _serve(self):
        with listening(self.socket, is_shared=False) as listener:
            self.is_ready.set()
            self.server.serve(listener, self.stopped.is_set)

    def stop(self):
        self.stopped.set()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()

    def client(self, **options):
        return SocketSigner(self.socket, **{"answer_s": DEADLINE_S, **options})

    def raw(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(DEADLINE_S)
        connection.connect(str(self.socket))
        return connection

    def say(self, data):
        """Send bytes as they are; returns all that came back."""
        with self.raw() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            try:
                while part := connection.recv(65536):
                    found += part
            except ConnectionResetError:
                pass  # It left while something of ours was unread, and said nothing.
            return found

    def record(self):
        return (self.directory / "last").read_text("utf-8")


@pytest.fixture
def served(tmp_path):
    made = Served(tmp_path)
    yield made
    made.stop()


def framed(data):
    return struct.pack(">I", len(data)) + data


def test_a_sequencer_gets_its_log_signed_over_the_socket(served):
    client = served.client()

    assert (client.origin, client.last()) == (served.origin, (0, EMPTY_ROOT))
    first = client.sign(3, root(3), ())
    second = client.sign(9, root(9), proof(3, 9))

    keys = parse_log_keys((served.directory / "log_keys").read_text("utf-8"))
    assert open_checkpoint(first, keys).size == 3
    assert open_checkpoint(second, keys).root == root(9)
    assert served.record() == second
    assert client.sign(9, root(9), ()) == second
    assert client.successors() == ()


@pytest.mark.parametrize(
    ("size", "given_root", "path"),
    [
        (4, root(4), ()),
        (0, EMPTY_ROOT, ()),
        (5, root(4), ()),
        (9, b"\x01" * 32, proof(5, 9)),
        (9, root(9), ()),
        (9, root(9), proof(4, 9)),
        (2**53 - 1, root(9), proof(5, 9)),
    ],
    ids=["smaller", "empty", "other root", "no root", "no proof", "another proof", "huge"],
)
def test_what_does_not_extend_the_last_one_is_not_signed(served, size, given_root, path):
    client = served.client()
    before = client.sign(5, root(5), ())

    with pytest.raises(AuditLogError):
        client.sign(size, given_root, path)
    assert served.record() == before


def test_a_log_of_another_origin_is_not_signed(served):
    request = Request(ask="sign", origin="example.org/asml-trail/00000000", size=3, root=root(3))

    answer = parse_answer(served.say(framed(request.encode()))[4:])

    assert answer.error == "AuditLogError"
    assert "this signer's log is" in answer.message
    assert served.client().last() == (0, EMPTY_ROOT)


GARBAGE = {
    "nothing": b"",
    "half a length": b"\x00\x00",
    "no length": struct.pack(">I", 0),
    "4 GiB": struct.pack(">I", 2**32 - 1) + b"x" * 100,
    "one more than allowed": struct.pack(">I", (1 << 16) + 1) + b"x" * 100,
    "cut": framed(Request(ask="last").encode())[:-1],
    "not JSON": framed(b"\xff\xfe\x00"),
    "an array": framed(b"[1]"),
    "deep": framed(b"[" * 30000),
    "another version": framed(b'{"ask":"last","v":2}'),
    "not canonical": framed(b'{"v": 1, "ask": "last"}'),
    "adopt": framed(b'{"ask":"adopt","origin":"x","proof":[],"root":"","size":1,"v":1}'),
    "one field more": framed(b'{"ask":"last","more":1,"v":1}'),
    "a size in words": framed(b'{"ask":"sign","origin":"x","proof":[],"root":"","size":"1","v":1}'),
    "a negative size": framed(
        b'{"ask":"sign","origin":"x","proof":[],"root":"' + b"0" * 64 + b'","size":-1,"v":1}'
    ),
    "a long proof": framed(
        b'{"ask":"sign","origin":"x","proof":['
        + b",".join([b'"' + b"0" * 64 + b'"'] * 65)
        + b'],"root":"'
        + b"0" * 64
        + b'","size":1,"v":1}'
    ),
    "http": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_changes_nothing_and_the_next_one_is_served(served, data):
    before = served.record()

    answer = served.say(data)

    assert answer == b"" or parse_answer(answer[4:]).error == "FormatError"
    assert served.record() == before
    assert served.client().sign(3, root(3), ()) == served.record()


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_question_or_refused(data):
    try:
        request = parse_request(data)
    except FormatError:
        return
    assert request.encode() == data


def test_the_silent_and_the_slow_are_left_alone_and_do_not_stop_others(tmp_path):
    served = Served(tmp_path, ask_s=0.3)
    try:
        silent = [served.raw() for _ in range(40)]
        dripping = served.raw()
        dripping.sendall(b"\x00\x00\x00")

        note = served.client().sign(3, root(3), ())

        assert served.record() == note
        # All of them were let go: their ends are closed.
        for connection in (*silent, dripping):
            assert connection.recv(1) == b""
            connection.close()
    finally:
        served.stop()


def test_a_client_for_whom_no_thread_is_left_takes_no_place_from_later_ones(served, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        for _ in range(MAX_CONNECTIONS + 1):
            with served.raw() as client:
                assert client.recv(1) == b""

    assert served.client().last() == (0, EMPTY_ROOT)


def test_another_user_is_refused(tmp_path):
    served = Served(tmp_path, uids={os.geteuid() + 1})
    try:
        assert served.say(framed(Request(ask="last").encode())) == b""
        with pytest.raises((ServiceUnavailableError, ServiceRefusedError)):
            served.client().last()
    finally:
        served.stop()


def test_two_clients_at_once_never_get_two_histories(served):
    other = [leaf_hash(b"other" + bytes([n])) for n in range(12)]
    served.client().sign(5, root(5), ())
    barrier, results = threading.Barrier(8), []

    def ask(number):
        client = served.client()
        tree = LEAVES if number % 2 else LEAVES[:5] + other[5:]
        size = 6 + number // 2
        path = consistency_proof(5, size, lambda lv, n: root_of(tree[n << lv : (n + 1) << lv]))
        barrier.wait(DEADLINE_S)
        try:
            results.append(client.sign(size, root_of(tree[:size]), path))
        except AuditLogError:
            results.append(None)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    signed = [note for note in results if note is not None]
    assert len(results) == 8
    # Proofs are from size 5: once somebody was signed, the others' no longer fit.
    assert len(signed) == 1
    assert served.record() == signed[0]


def test_after_a_kill_between_the_record_and_the_answer_the_same_note_comes_again(
    served, monkeypatch
):
    client, real = served.client(), SignerServer._answer
    assert client.last() == (0, EMPTY_ROOT)

    def dying(self, data):
        real(self, data)
        raise OSError("killed")

    monkeypatch.setattr(SignerServer, "_answer", dying)
    with pytest.raises((ServiceUnavailableError, ServiceRefusedError)):
        client.sign(3, root(3), ())
    monkeypatch.undo()
    kept = served.record()

    assert served.client().last() == (3, root(3))
    assert served.client().sign(3, root(3), ()) == kept


def test_a_lost_record_is_said_and_nothing_is_signed(served):
    (served.directory / "last").unlink()

    with pytest.raises(AuditLogError, match="secure-ml audit adopt"):
        served.client().last()
    with pytest.raises(ConfigurationError, match="signer's directory"):
        served.client().adopt(3, root(3))


def test_successors_are_told_over_the_socket(served):
    new = prepare_successors(served.directory, post_quantum=True)

    assert served.client().successors() == new


def test_nobody_listens(tmp_path):
    (tmp_path / "run").mkdir(mode=0o700)

    with pytest.raises(ServiceUnavailableError, match="No such file"):
        SocketSigner(tmp_path / "run" / "signer.sock").last()


def test_a_socket_that_others_could_have_made_is_not_asked(served):
    served.run.chmod(0o777)

    with pytest.raises(ServiceRefusedError, match="who alone may write"):
        served.client().last()


def test_a_note_over_another_tree_than_asked_is_refused(served, monkeypatch):
    note = served.client().sign(3, root(3), ())
    monkeypatch.setattr(LogSigner, "sign", lambda self, *args: note)

    with pytest.raises(ServiceRefusedError, match="than it was asked"):
        served.client().sign(9, root(9), proof(3, 9))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702], ids=oct)
def test_no_socket_is_made_where_others_can_write(tmp_path, mode):
    place = tmp_path / "run"
    place.mkdir()
    place.chmod(mode)

    with (
        pytest.raises(ConfigurationError, match="passes for the signer"),
        listening(place / "signer.sock", is_shared=False),
    ):
        pass


def test_a_file_in_the_socket_s_place_is_not_removed(tmp_path):
    place = tmp_path / "signer.sock"
    place.write_text("precious")
    tmp_path.chmod(0o700)

    with (
        pytest.raises(ConfigurationError, match="something else"),
        listening(place, is_shared=False),
    ):
        pass
    assert place.read_text() == "precious"


def test_only_one_program_signs_for_a_directory(tmp_path):
    import subprocess
    import sys

    program = (
        "import sys, pathlib\n"
        "from airflow_secure_ml.adapters.log_signer.serving import only_program\n"
        "with only_program(pathlib.Path(sys.argv[1])): pass\n"
    )
    with only_program(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            check=False,
            capture_output=True,
            timeout=DEADLINE_S,
        )

    assert b"another signer runs" in done.stderr


def test_a_directory_that_fails_is_said_and_passes(served, monkeypatch):
    def failing(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "rename", failing)
    with pytest.raises(ServiceUnavailableError, match="No space left"):
        served.client().sign(3, root(3), ())
    monkeypatch.undo()

    assert served.client().sign(3, root(3), ()) == served.record()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("last.request", Request(ask="last")),
        (
            "sign.request",
            Request(
                ask="sign",
                origin="example.org/asml-trail/7f3a9c20",
                size=9,
                root=root(9),
                proof=proof(5, 9),
            ),
        ),
        (
            "hand_over.request",
            Request(
                ask="hand_over",
                origin="example.org/asml-trail/7f3a9c20",
                size=1,
                root=root(1),
                leaf=b'{"act":"trail.key"}',
                path=(root(2),),
            ),
        ),
        ("note.answer", Answer(note="example\n")),
        ("error.answer", Answer(error="AuditLogError", why="digest_differs", message="no")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_frames_are_those_of_the_vectors(name, value):
    data = (VECTORS / name).read_bytes()

    assert data == framed(value.encode())
    parse = parse_request if name.endswith(".request") else parse_answer
    assert parse(data[4:]).encode() == data[4:]


def test_a_frame_is_read_only_as_long_as_it_was_waited_for():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\x00")
        with pytest.raises(TimeoutError):
            wire.receive(ours, until=time.monotonic() + 0.1)


STRANGER = 65534


def as_other_user(act):
    """What a fork of this process gets after it became another user; text."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        said = "nothing"
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            said = act()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.wait()
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "not listed"])
def test_another_user_gets_signatures_only_if_listed_and_never_the_key(is_listed):
    # Not below tmp_path: others may not pass through its folders.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        uids = {os.geteuid(), STRANGER} if is_listed else None
        served = Served(Path(folder), uids=uids)
        try:
            served.run.chmod(0o755)
            served.socket.chmod(0o666)
            signed = as_other_user(lambda: served.client().sign(3, root(3), ()))
            stolen = as_other_user(lambda: (served.directory / "log.key").read_text())
            moved = as_other_user(lambda: str(served.socket.rename(served.run / "mine")))
        finally:
            served.stop()

        if is_listed:
            assert signed == served.record()
        else:
            assert signed.startswith("Service")
            assert served.record().splitlines()[1] == "0"
        assert stolen.startswith("PermissionError")
        assert moved.startswith("PermissionError")

"""The witness's door against a client that means harm, and the program that the trail starts."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time

import pytest

from airflow_secure_ml.adapters.witness import Door, init_witness, read_witness_key
from airflow_secure_ml.adapters.witness.door import MAX_CONNECTIONS
from airflow_secure_ml.core.audit.add_checkpoint import MAX_REQUEST_BYTES, PATH, Reply
from airflow_secure_ml.errors import ConfigurationError, FormatError, ServiceUnavailableError
from airflow_secure_ml.outgoing import HttpPoster
from tests.servers.serving import serving


@pytest.fixture
def door():
    made = Door(("127.0.0.1", 0), lambda body: Reply(status=200, body="x\n"), deadline_s=1.0)
    with serving(made):
        yield made


def talk(door, data):
    with socket.create_connection(("127.0.0.1", door.server_port), 10.0) as client:
        client.sendall(data)
        found = b""
        while more := client.recv(4096):
            found += more
    return found


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /add-checkpoint HTTP/1.1", b"501"),
        (b"POST / HTTP/1.1\r\nContent-Length: 0", b"404"),
        (b"POST /../witness.key HTTP/1.1\r\nContent-Length: 0", b"404"),
        (b"POST /add-checkpoint HTTP/1.1", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -1", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 32769", b"413"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 999999999999", b"411"),
    ],
    ids=[
        *("get", "other path", "a file", "no length", "negative", "chunks", "too long"),
        "absurd",
    ],
)
def test_what_is_no_bounded_post_is_refused(door, head, status):
    answer = talk(door, head + b"\r\n\r\n")

    assert answer.split(b" ", 2)[1] == status
    assert b"Python" not in answer


@pytest.mark.parametrize(
    "path",
    [b"/\x1b[2J\x9b1m\r2026-01-01 INFO all is well", b"/" + b"x" * 60_000],
    ids=["signs", "long"],
)
def test_a_stranger_writes_neither_signs_nor_pages_to_the_log(door, caplog, path):
    with caplog.at_level("INFO"):
        talk(door, b"POST " + path.replace(b" ", b"_") + b" HTTP/1.1\r\nContent-Length: 0\r\n\r\n")

    said = caplog.messages
    assert said
    assert all(line.isprintable() and len(line) < 500 for line in said)


def test_one_request_a_connection(door):
    request = b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"

    assert talk(door, request + request).count(b"HTTP/1.0 200") == 1


def test_who_says_nothing_is_sent_away_while_others_are_served(door):
    silent = [socket.create_connection(("127.0.0.1", door.server_port), 10.0) for _ in range(5)]
    url = f"http://127.0.0.1:{door.server_port}"

    answer = HttpPoster("witness", url).post(PATH, b"x", "text/plain")

    assert answer.status == 200
    for client in silent:
        assert client.recv(1) == b""
        client.close()


def _fails(kind):
    """What a system without descriptors or threads says, of connections and their clocks alone."""
    if kind == "no descriptor":

        def dup(self):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        return socket.socket, "dup", dup
    real = threading.Thread.start
    wanted = threading.Timer if kind == "no thread for its clock" else threading.Thread

    def start(self):
        if type(self) is wanted:
            raise RuntimeError("can't start new thread")
        real(self)

    return threading.Thread, "start", start


@pytest.mark.parametrize("kind", ["no descriptor", "no thread", "no thread for its clock"])
def test_a_connection_for_which_nothing_is_left_takes_no_place_from_later_ones(
    door, monkeypatch, kind
):
    with monkeypatch.context() as patched:
        patched.setattr(*_fails(kind))
        for _ in range(MAX_CONNECTIONS + 1):
            assert talk(door, b"POST ") == b""

    url = f"http://127.0.0.1:{door.server_port}"
    assert HttpPoster("witness", url).post(PATH, b"x", "text/plain").status == 200


def test_a_whole_request_of_the_largest_size_is_taken(door):
    url = f"http://127.0.0.1:{door.server_port}"

    assert HttpPoster("w", url).post(PATH, b"x" * MAX_REQUEST_BYTES, "text/plain").status == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000,
    ],
    ids=["nothing", "cut", "endless"],
)
def test_an_answer_that_is_none_is_unavailable(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        with pytest.raises(ServiceUnavailableError):
            HttpPoster("w", url).post(PATH, b"x", "text/plain")

        thread.join()


def test_a_server_that_drips_is_cut_off():
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
                try:
                    while not done.wait(0.05):
                        client.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        began_s = time.monotonic()

        with pytest.raises(ServiceUnavailableError):
            HttpPoster("w", url, deadline_s=0.5).post(PATH, b"x", "text/plain")

        assert time.monotonic() - began_s < 20.0
        done.set()
        thread.join()


def test_a_witness_key_is_private_and_made_once(tmp_path):
    folder = tmp_path / "w"
    public = init_witness(folder, "witness.example/w1")

    assert stat.S_IMODE((folder / "witness.key").stat().st_mode) == 0o600
    assert read_witness_key(folder).public == public
    assert "PRIVATE" not in repr(read_witness_key(folder))
    with pytest.raises(ConfigurationError, match="never replaced"):
        init_witness(folder, "witness.example/w1")


def test_a_witness_key_that_others_can_read_or_that_is_damaged_is_refused(tmp_path):
    init_witness(tmp_path, "witness.example/w1")
    path = tmp_path / "witness.key"

    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="0600"):
        read_witness_key(tmp_path)

    path.chmod(0o600)
    text = path.read_text()
    path.write_text(text.replace("w1+", "w2+"))
    with pytest.raises(FormatError, match="id does not fit"):
        read_witness_key(tmp_path)
    path.write_text(text[:30])
    with pytest.raises(FormatError, match="damaged"):
        read_witness_key(tmp_path)

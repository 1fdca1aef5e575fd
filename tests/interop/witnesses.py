"""Witnesses as programs of their own: ours, and litewitness, which is not."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.adapters.witness import LOGS_FILE, init_witness
from airflow_secure_ml.core.audit.cosignature import CosignerKey, parse_cosigner
from dags_examples.demo.kept_programs import free_ports

START_S = 20.0


@dataclass
class RunningWitness:
    """A witness that answers.

    Attributes:
        key: Its public half.
        url: Where it answers.
        process: Itself.
    """

    key: CosignerKey
    url: str
    process: subprocess.Popen


def until(condition, doing):
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, f"{doing}: not within {START_S} s"
        time.sleep(0.02)


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def ended(process):
    """Stop a program that this test started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def our_witness(folder, logs, *, name="witness.example/ours", more=()):
    """Our witness over a directory; made where it is not there yet."""
    if not (folder / "witness.key").exists():
        init_witness(folder, name)
    (folder / LOGS_FILE).write_text("".join(f"{line}\n" for line in logs))
    program = [sys.executable, "-I", "-m", "airflow_secure_ml.witness", "--dir", str(folder)]
    process = subprocess.Popen(
        [*program, "--listen", "127.0.0.1:0", *more],
        stdout=subprocess.PIPE, stderr=(folder / "err").open("ab"), text=True,
    )  # fmt: skip
    try:
        word, _, url = process.stdout.readline().strip().partition(" ")
        said = (folder / "err").read_text()
        assert word == "READY", said
        vkey = [line for line in said.splitlines() if " INFO witness " in line][-1].split()[-1]
        yield RunningWitness(parse_cosigner(vkey), url, process)
    finally:
        ended(process)
        process.stdout.close()


@contextlib.contextmanager
def litewitness(binary, logs, *, name="witness.example/w1"):
    """litewitness with a key in an ssh-agent of its own; it knows these logs."""
    # Not pytest's folder: the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="asml-lw-"))
    programs = []
    try:
        agent = folder / "agent"
        programs.append(
            subprocess.Popen(["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL)
        )
        until(agent.exists, "ssh-agent starts")
        public = _add_key(folder, agent)
        fingerprint = _fingerprint(public)
        database = folder / "db"
        _declare(database, logs)
        port = free_ports(1)[0]
        command = [str(binary), "-db", str(database), "-name", name, "-key", fingerprint]
        command += ["-ssh-agent", str(agent), "-listen", f"127.0.0.1:{port}"]
        with (folder / "out").open("wb") as out:
            programs.append(subprocess.Popen(command, stdout=out, stderr=out))
        until(lambda: answers(port), "litewitness starts")
        key = CosignerKey(name=name, public_key=public)
        assert key.vkey() in (folder / "out").read_text()
        yield RunningWitness(key, f"http://127.0.0.1:{port}", programs[-1])
    finally:
        for program in reversed(programs):
            ended(program)
        shutil.rmtree(folder)


def kill(witness):
    """As a machine that loses its power to this process alone."""
    witness.process.send_signal(signal.SIGKILL)
    witness.process.wait()


def _add_key(folder, agent):
    key = Ed25519PrivateKey.generate()
    path = folder / "key"
    path.touch(0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    environment = os.environ | {"SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", "-q", str(path)], env=environment, check=True, capture_output=True)
    path.unlink()
    return key.public_key().public_bytes_raw()


def _fingerprint(public):
    def packed(data):
        return len(data).to_bytes(4, "big") + data

    digest = hashlib.sha256(packed(b"ssh-ed25519") + packed(public)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _declare(path, logs):
    """The tables as litewitness makes them, and a row for each log: FACTS tells how."""
    empty = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE log(origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, "
            "tree_hash TEXT NOT NULL)"
        )
        database.execute("CREATE TABLE key(origin TEXT NOT NULL, key TEXT NOT NULL)")
        for vkey in logs:
            origin = vkey.split("+")[0]
            database.execute("INSERT INTO log VALUES(?, 0, ?)", (origin, empty))
            database.execute("INSERT INTO key VALUES(?, ?)", (origin, vkey))

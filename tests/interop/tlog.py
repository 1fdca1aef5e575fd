"""A log served over HTTP as plain files, and Tessera's fsck over it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import socketserver
import subprocess

from tests.servers.serving import serving


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        return


class _Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        # Not HTTPServer's: it asks the name service for this host's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


@contextlib.contextmanager
def served(folder):
    """The folder's address while the block lasts."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = _Server(("127.0.0.1", 0), handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}/"


def fsck(binary, address, vkey, folder):
    """Whether fsck accepts the log, and what it said; its exit status is 0 either way."""
    # Many workers: one alone that finds a fault leaves the program waiting for ever.
    key = folder / "log.vkey"
    key.write_text(f"{vkey}\n")
    done = subprocess.run(
        [str(binary), "-storage_url", address, "-public_key", str(key), "-ui=false", "-N=64"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    is_whole = "Successfully fsck'd log" in done.stderr
    assert is_whole != ("fsck failed" in done.stderr), done.stderr
    return is_whole, done.stderr

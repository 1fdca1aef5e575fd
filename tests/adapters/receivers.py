"""Receivers of events for tests: a web hook and a syslog server, over real TLS, well or ill."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import json
import socket
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.serving import serving


def make_certificate(folder):
    """A self-signed certificate for this machine; (certificate's path, with its key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "ca.pem").write_bytes(pem)
    (folder / "both.pem").write_bytes(secret + pem)
    return folder / "ca.pem", folder / "both.pem"


def server_context(both):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context


class Hook:
    """What a web hook got, and how it answers: `answer(n, handler)` for its n-th request."""

    def __init__(self):
        self.requests, self.answer = [], lambda n, handler: (200, {}, b"")
        self.lock = threading.Lock()

    def indices(self):
        return [index for _, body in list(self.requests) for index in indices_of(body)]


def indices_of(body):
    """Indices of a body of OCSF lines."""
    return [json.loads(line)["metadata"]["sequence"] for line in body.splitlines()]


@contextlib.contextmanager
def web_hook(both):
    """A web hook over TLS: (what it got, its address)."""
    hook = Hook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with hook.lock:
                hook.requests.append((dict(self.headers) | {"path": self.path}, body))
                count = len(hook.requests)
            found = hook.answer(count, self)
            if found is None:
                return
            status, headers, text = found
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = server_context(both).wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield hook, f"https://127.0.0.1:{server.server_port}"


@contextlib.contextmanager
def syslog_server(both, *, end=lambda line: line.unwrap()):
    """A syslog receiver over TLS: (what each connection said, its port)."""
    said, context = [], server_context(both)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), plain:
                line = context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
                found = b""
                while more := line.recv(65_536):
                    found += more
                said.append(found)
                end(line)
                line.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield said, listener.getsockname()[1]
    finally:
        # Closing alone does not wake a thread in accept.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def messages_of(data):
    """RFC 5425's frames, read by their own rule."""
    found = []
    while data:
        length, _, rest = data.partition(b" ")
        found.append(rest[: int(length)].decode("utf-8"))
        assert len(rest) >= int(length)
        data = rest[int(length) :]
    return found

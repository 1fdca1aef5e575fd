"""A time-stamping authority that is not ours: `openssl ts` behind a small HTTP server."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import subprocess
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.servers.serving import serving

POLICY = "1.2.3.4.1"
_CONFIG = """
[tsa]
serial = {folder}/serial
default_policy = 1.2.3.4.1
digests = {digests}
signer_digest = sha256
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_alg = sha256
"""


def _usage(**more):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    names += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**(dict.fromkeys(names, False) | more))


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A CA of its own, and a signer that it issued.

    Attributes:
        folder: Where its files lie.
        digests: Which digests it stamps.
        ca_key: Of the CA; RSA, so that signatures have one length.
        key: Of the signer.
    """

    folder: object
    digests: str = "sha256"
    ca_key: object = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    key: object = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def __post_init__(self):
        self.folder.mkdir()
        name = _name("tsa ca")
        made = self._builder(name, self.ca_key.public_key(), number=1).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        made = made.add_extension(_usage(key_cert_sign=True), critical=True)
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(_pem(made.sign(self.ca_key, hashes.SHA256())))
        (self.folder / "key.pem").touch(0o600)
        (self.folder / "key.pem").write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        config = _CONFIG.format(folder=self.folder, digests=self.digests)
        (self.folder / "tsa.cnf").write_text(config)
        self.use(self.certificate())

    def _builder(self, subject, public_key, *, number, days=(-2, 2)):
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name("tsa ca"))
            .public_key(public_key)
            .serial_number(number)
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
        )

    def certificate(
        self, *, usage=ExtendedKeyUsageOID.TIME_STAMPING, critical=True, days=(-2, 2), name="signer"
    ):
        """A certificate of the signer's key; each has one issuer and number."""
        made = self._builder(_name(name), self.key.public_key(), number=4711, days=days)
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=critical)
        made = made.add_extension(_usage(digital_signature=True), critical=True)
        return made.sign(self.ca_key, hashes.SHA256())

    def use(self, certificate):
        """Sign with this certificate from now on."""
        self.signer = certificate
        (self.folder / "signer.pem").write_bytes(_pem(certificate))

    def reply(self, query, *, more=()):
        """What the authority answers to a query; `more` certificates go along."""
        asked, answered = self.folder / "query.tsq", self.folder / "reply.tsr"
        asked.write_bytes(query)
        (self.folder / "serial").write_text("01")
        command = ["openssl", "ts", "-reply", "-config", str(self.folder / "tsa.cnf")]
        command += ["-section", "tsa", "-queryfile", str(asked), "-out", str(answered)]
        command += ["-signer", str(self.folder / "signer.pem")]
        command += ["-inkey", str(self.folder / "key.pem")]
        if more:
            (self.folder / "more.pem").write_bytes(b"".join(map(_pem, more)))
            command += ["-chain", str(self.folder / "more.pem")]
        subprocess.run(command, check=True, capture_output=True)
        return answered.read_bytes()

    def reply_as(self, query, certificate):
        """The same with another certificate of that length in the place of the signer's."""
        ours, other = map(_der, (self.signer, certificate))
        assert len(ours) == len(other)
        reply = self.reply(query)
        assert reply.count(ours) == 1
        return reply.replace(ours, other)


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def _der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


@contextlib.contextmanager
def answering(answer):
    """The address of a server that answers each POST with `answer(body)`: status and bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, data = answer(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"

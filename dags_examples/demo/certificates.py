"""A certificate authority of one folder, for servers on the loopback interface.

For tests and the demo: its certificates end within days, and nobody else trusts it.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = datetime.timedelta(days=7)
# Clocks of one machine agree; those of a container and its host may not.
EARLY = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key, as files.

    Attributes:
        file: The certificate, PEM.
        key_file: Its private key, PEM, mode 0600.
    """

    file: Path
    key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """An authority whose own key is in memory alone.

    Attributes:
        file: Its certificate, PEM: what a client trusts.
    """

    file: Path
    _certificate: x509.Certificate = field(repr=False)
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def make(cls, file: Path) -> Self:
        """Make one, and write its certificate to a file."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"authority of {file.parent.name}")
        usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(file=file, _certificate=certificate, _key=key)

    def for_server(self, folder: Path, name: str = "server") -> Certificate:
        """Issue a certificate for the loopback interface; written to `folder`/`name`.pem."""
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        return self._issue(folder, name, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def for_client(self, folder: Path, name: str) -> Certificate:
        """Issue a certificate to log in with; its common name is `name`."""
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        return self._issue(folder, name, ExtendedKeyUsageOID.CLIENT_AUTH, names)

    def _issue(
        self,
        folder: Path,
        name: str,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName,
    ) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(_name(name), self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        issued = Certificate(file=folder / f"{name}.pem", key_file=folder / f"{name}.key")
        issued.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_private(
            issued.key_file,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return issued


def write_private(file: Path, data: bytes) -> None:
    """Write a file that its owner alone can read, from its first moment on."""
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        output.write(data)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLY)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(
    *, digital_signature: bool, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

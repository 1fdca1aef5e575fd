"""Ask a time-stamping authority, and verify what it answers.

Chain, signature and imprint are `rfc3161-client`'s business; what it leaves open is checked here:
which digest, one certificate for the signer, a critical key purpose that stands alone, a sane time.

Source: RFC 3161, 2.2 to 2.4 and 3.4.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from airflow_secure_ml.core.audit.relaying import Poster
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SignatureError,
)
from airflow_secure_ml.extras import import_extra

REQUEST_TYPE = "application/timestamp-query"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_GRANTED = 0
# A stamp far from our clock is of use to nobody: one of the two is wrong.
MAX_SKEW_MS = 3_600_000
_MAX_CA_BYTES = 1 << 20


class AuthorityStamper:
    """One authority. A `core.audit.relaying.Stamper`.

    Args:
        door: Leads to it; None: stamps are only checked.
        url: Its address, as pages name it.
        ca: Certificates that stamps have to lead to, PEM.
        policy: The policy that stamps have to name, dotted; empty: any.
        now_ms: Wall clock, ms since 1970 UTC.
    """

    def __init__(
        self,
        door: Poster | None,
        url: str,
        *,
        ca: Path,
        policy: str = "",
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.url = url
        self._door, self._ca, self._policy, self._now_ms = door, ca, policy, now_ms

    def stamp(self, data: bytes) -> tuple[bytes, int]:
        """Ask for a stamp over the SHA-256 of bytes; errors as in the protocol."""
        client = _library()
        if self._door is None:
            raise ConfigurationError(f"{self.url}: nothing leads to it here")
        request = (
            client.TimestampRequestBuilder()
            .data(data)
            .hash_algorithm(client.base.HashAlgorithm.SHA256)
            .nonce(nonce=True)
            .cert_request(cert_request=True)
            .build()
        )
        answer = self._door.post("", request.as_bytes(), REQUEST_TYPE)
        if answer.status >= 500:
            raise ServiceUnavailableError(
                service=self.url, action="stamp", reason=f"status {answer.status}"
            )
        if answer.status != 200:
            raise self._refused(f"status {answer.status}")
        time_ms = self._check(answer.body, data, request.nonce)
        skew_ms = abs(time_ms - self._now_ms())
        if skew_ms > MAX_SKEW_MS:
            raise SignatureError(
                f"{self.url}: a stamp {skew_ms // 1000} s from this machine's time; "
                "look at its clock"
            )
        return answer.body, time_ms

    def check(self, response: bytes, data: bytes) -> int:
        """The time in a stamp over bytes, ms since 1970 UTC; errors as in the protocol."""
        return self._check(response, data, None)

    def _check(self, body: bytes, data: bytes, nonce: int | None) -> int:
        client = _library()
        try:
            response = client.decode_timestamp_response(body)
            status = int(response.status)
        except ValueError as error:
            raise FormatError(f"{self.url}: expected a time-stamp response, DER") from error
        if status != _GRANTED:
            raise self._refused(f"response status {status}")
        builder = client.VerifierBuilder(roots=self._roots(), nonce=nonce)
        if self._policy:
            builder = builder.policy_id(x509.ObjectIdentifier(self._policy))
        try:
            info = response.tst_info
            if info.message_imprint.hash_algorithm.dotted_string != _SHA256:
                raise SignatureError(f"{self.url}: a stamp over another digest than SHA-256")
            _check_signer(response, self.url)
            builder.build().verify(response, hashlib.sha256(data).digest())
            return int(info.gen_time.timestamp() * 1000)
        except (client.errors.VerificationError, ValueError) as error:
            # Its words hold no secret: they name the check.
            raise SignatureError(f"{self.url}: the stamp does not hold: {error}") from error

    def _roots(self) -> list[x509.Certificate]:
        try:
            with self._ca.open("rb") as stream:
                return x509.load_pem_x509_certificates(stream.read(_MAX_CA_BYTES))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self._ca}: expected certificates that time stamps lead to, PEM; "
                "set [secure_ml] audit_timestamp_ca"
            ) from error

    def _refused(self, reason: str) -> ServiceRefusedError:
        return ServiceRefusedError(
            service=self.url, action="stamp", reason=reason, why="misconfigured"
        )


def _check_signer(response: Any, whose: str) -> None:
    """Return if exactly one certificate is the signer's, and it is for time stamps alone."""
    signers = list(response.signed_data.signer_infos)
    certificates = [
        x509.load_der_x509_certificate(each) for each in response.signed_data.certificates
    ]
    # Two of one issuer and number: the one whose key signed, and one whose purpose was looked at.
    found = [
        each
        for each in certificates
        if len(signers) == 1
        and (each.issuer, each.serial_number) == (signers[0].issuer, signers[0].serial_number)
    ]
    if len(found) != 1:
        raise SignatureError(f"{whose}: expected one signer with its certificate in the stamp")
    try:
        usage = found[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound as error:
        raise SignatureError(f"{whose}: its certificate is not for time stamps") from error
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise SignatureError(f"{whose}: its certificate is not for time stamps alone")


def _library() -> Any:
    library = import_extra("rfc3161_client", extra="timestamps")
    for part in ("base", "errors"):
        import_extra(f"rfc3161_client.{part}", extra="timestamps")
    return library

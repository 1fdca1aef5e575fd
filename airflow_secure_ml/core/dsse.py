"""Dead Simple Signing Envelope: bytes, their type, and signatures over both.

`verify` returns the payload or raises; there is no way to the payload of an envelope that nobody
accepted has signed. What the payload says is `core.statement`'s part.

Source: DSSE 1.0 (github.com/secure-systems-lab/dsse), envelope.md and protocol.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.canonical import Limits, decode, encode
from airflow_secure_ml.core.crypto_policy import governing
from airflow_secure_ml.core.ml_dsa import SIGNATURE_BYTES, SUFFIX
from airflow_secure_ml.core.ports import KeyRef, Signer, Verifier
from airflow_secure_ml.errors import FormatError, PolicyError, SignatureError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 72 << 20
MAX_SIGNATURES = 16
_MAX_KEYID_BYTES = 256
_START = b'{"payload":"'
# 16 signatures of ML-DSA-65 in base64, their names, and what stands around them.
_MAX_REST_BYTES = 81920
_SIGNATURE_BYTES = (64, SIGNATURE_BYTES)
_LIMITS = Limits(max_bytes=MAX_ENVELOPE_BYTES, max_depth=3, key=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature of an envelope.

    Attributes:
        key: Which key its maker says it is, `name/version`; nothing vouches for that.
        value: 64 bytes of Ed25519, or 3309 of ML-DSA-65.
    """

    key: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A parsed envelope. Its payload stays private until `verify` returned it.

    Attributes:
        payload_type: What kind of payload it is; covered by the signatures.
        signatures: 1 to `MAX_SIGNATURES`.
    """

    payload_type: str
    signatures: tuple[Signature, ...]
    _payload: bytes

    def encode(self) -> bytes:
        """The envelope as canonical JSON."""
        record = {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self._payload).decode(),
            "signatures": [
                {"keyid": each.key, "sig": base64.b64encode(each.value).decode()}
                for each in self.signatures
            ],
        }
        return encode(record, limits=_LIMITS)


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed (PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, signers: Sequence[Signer]) -> Envelope:
    """Sign an in-toto statement's bytes with each of the keys, and with its second half."""
    message = pre_authentication(PAYLOAD_TYPE, payload)
    signatures = tuple(each for signer in signers for each in _signed(message, signer))
    return Envelope(payload_type=PAYLOAD_TYPE, signatures=signatures, _payload=payload)


def parse(data: bytes) -> Envelope:
    """Read an envelope; nothing in it is authenticated yet.

    Raises:
        FormatError: Not canonical JSON, another field, another type of payload, base64 with
            anything unusual, or a count or length past its limit.
    """
    # Unsigned JSON of megabytes could be anything; here only one text in it may be long.
    if len(data) - data.find(b'"', len(_START)) > _MAX_REST_BYTES or not data.startswith(_START):
        raise FormatError("envelope: expected canonical JSON that begins with its payload")
    match decode(data, limits=_LIMITS):
        case {
            "payloadType": str(kind),
            "payload": str(payload),
            "signatures": [*given],
            **rest,
        } if not rest and 1 <= len(given) <= MAX_SIGNATURES:
            if kind != PAYLOAD_TYPE:
                raise FormatError(f"envelope: payload of type {kind[:80]!r}, not {PAYLOAD_TYPE}")
            signatures = tuple(_signature(each) for each in given)
            return Envelope(payload_type=kind, signatures=signatures, _payload=_bytes(payload))
    raise FormatError(
        "envelope: expected payloadType, payload and signatures"
        f" (1 to {MAX_SIGNATURES}), and nothing else"
    )


def verify(envelope: Envelope, verifiers: Sequence[Verifier]) -> tuple[bytes, tuple[KeyRef, ...]]:
    """Return the payload and whose accepted signatures hold; at least one does.

    Args:
        envelope: What `parse` returned.
        verifiers: The keys whose signatures are accepted; a key id in the envelope only picks
            among them.

    Raises:
        SignatureError: A signature names an accepted key and does not hold, and none holds.
        PolicyError: No signature names an accepted key (`why` signer_not_accepted), or those that
            hold are of types that are not read any more (rule_denied).
    """
    message = pre_authentication(envelope.payload_type, envelope._payload)
    held: dict[str, KeyRef] = {}
    failed: SignatureError | None = None
    denied: PolicyError | None = None
    for signature in envelope.signatures:
        for verifier in verifiers:
            if verifier.key_id != signature.key:
                continue
            try:
                verifier.verify(signature.value, message)
                second = _verify_second(envelope, verifier, message)
                governing([verifier]).check_held([signature.value, *second])
            except SignatureError as error:
                failed = error
            except PolicyError as error:
                denied = error
            else:
                held[str(verifier.ref)] = verifier.ref
    if held:
        return envelope._payload, tuple(held.values())
    if failed is not None:
        raise SignatureError(f"envelope: {failed}") from failed
    if denied is not None:
        raise denied
    names = ", ".join(sorted({each.key for each in envelope.signatures}))
    accepted = ", ".join(sorted({str(each.ref) for each in verifiers})) or "nobody's"
    raise PolicyError(
        f"signed by {names}; accepted are signatures of {accepted}", why="signer_not_accepted"
    )


def _signed(message: bytes, signer: Signer) -> list[Signature]:
    made = [Signature(key=str(signer.ref), value=signer.sign(message))]
    second: Signer | None = getattr(signer, "second", None)
    if second is not None:
        made.append(Signature(key=str(signer.ref) + SUFFIX, value=second.sign(message)))
    return made


def _verify_second(envelope: Envelope, verifier: Verifier, message: bytes) -> list[bytes]:
    """Require the second signature of a key that has one: whoever breaks the first strips it."""
    second: Verifier | None = getattr(verifier, "second", None)
    if second is None:
        return []
    found = [each for each in envelope.signatures if each.key == second.key_id]
    if not found:
        raise SignatureError(
            f"{verifier.ref}: this key signs twice, and its second signature is missing (it was "
            "taken away, or never made)"
        )
    for each in found:
        second.verify(each.value, message)
    return [each.value for each in found]


def _signature(record: object) -> Signature:
    match record:
        case {"keyid": str(key), "sig": str(text), **rest} if not rest:
            value = _bytes(text)
            # Names of keys are plain words; anything else would reach messages and logs.
            if (
                len(value) in _SIGNATURE_BYTES
                and 1 <= len(key) <= _MAX_KEYID_BYTES
                and _is_plain(key)
            ):
                return Signature(key=key, value=value)
    raise FormatError("envelope: a signature needs keyid, and sig of 64 or 3309 bytes; no more")


def _is_plain(key: str) -> bool:
    return key.isascii() and key.isprintable()


def _bytes(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError("envelope: not base64") from error
    # A decoder overlooks stray bits in the last character; one value has one spelling here.
    if base64.b64encode(value).decode() != text:
        raise FormatError("envelope: base64 with stray bits")
    return value

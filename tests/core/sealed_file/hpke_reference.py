"""HPKE in base mode once more, from RFC 9180 and draft-ietf-hpke-pq: slow, short.

Shares no code with the package, nor with the library's HPKE: HKDF from `hmac`, the schedule from
the text, both KEMs put together from their parts.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

X25519, HYBRID = 0x0020, 0x647A
_KEY_BYTES = {1: 16, 2: 32, 3: 32}


def extract(salt, data):
    return hmac.new(salt or bytes(32), data, hashlib.sha256).digest()


def expand(key, info, length):
    out = block = b""
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([len(out) // 32 + 1]), hashlib.sha256).digest()
        out += block
    return out[:length]


def labeled_extract(suite_id, salt, label, data):
    return extract(salt, b"HPKE-v1" + suite_id + label + data)


def labeled_expand(suite_id, key, label, info, length):
    return expand(key, length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info, length)


def public_of(kem, seed):
    if kem == X25519:
        return X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    mlkem, x25519 = halves(seed)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def halves(seed):
    expanded = hashlib.shake_256(seed).digest(96)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def decapsulate(kem, seed, enc):
    if kem == X25519:
        suite_id = b"KEM" + kem.to_bytes(2, "big")
        key = X25519PrivateKey.from_private_bytes(seed)
        shared = key.exchange(X25519PublicKey.from_public_bytes(enc))
        prk = labeled_extract(suite_id, b"", b"eae_prk", shared)
        return labeled_expand(suite_id, prk, b"shared_secret", enc + public_of(kem, seed), 32)
    mlkem, x25519 = halves(seed)
    ciphertext, their = enc[:1088], enc[1088:]
    ours = x25519.public_key().public_bytes_raw()
    shared = x25519.exchange(X25519PublicKey.from_public_bytes(their))
    # The combiner of MLKEM768-X25519, once called X-Wing.
    data = mlkem.decapsulate(ciphertext) + shared + their + ours + rb"\./" + rb"/^\ "[:-1]
    return hashlib.sha3_256(data).digest()


def schedule(kem, aead, shared, info):
    """Key and base nonce of base mode with HKDF-SHA256."""
    suite_id = b"HPKE" + b"".join(each.to_bytes(2, "big") for each in (kem, 1, aead))
    context = b"\0"
    context += labeled_extract(suite_id, b"", b"psk_id_hash", b"")
    context += labeled_extract(suite_id, b"", b"info_hash", info)
    secret = labeled_extract(suite_id, shared, b"secret", b"")
    key = labeled_expand(suite_id, secret, b"key", context, _KEY_BYTES[aead])
    return key, labeled_expand(suite_id, secret, b"base_nonce", context, 12)

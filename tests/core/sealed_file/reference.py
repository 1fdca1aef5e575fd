"""The sealed file once more, written from SEALED_FILE_FORMAT alone: slow, short, whole in memory.

Shares no code with the package: HKDF from `hmac`, RFC 3394 from AES blocks, segments from a loop.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\x89ASML\r\n\x1a"


def mac(key, data):
    return hmac.new(bytes(key), data, hashlib.sha256).digest()


def expand(key, info):
    return mac(key, info + b"\x01")


def _blocks(key):
    return Cipher(algorithms.AES(key), modes.ECB())


def key_wrap(key, inner):
    blocks = [inner[i : i + 8] for i in range(0, len(inner), 8)]
    a, encrypt = b"\xa6" * 8, _blocks(key).encryptor()
    for j in range(6):
        for i, block in enumerate(blocks):
            out = encrypt.update(a + block)
            t = len(blocks) * j + i + 1
            a, blocks[i] = (int.from_bytes(out[:8], "big") ^ t).to_bytes(8, "big"), out[8:]
    return a + b"".join(blocks)


def key_unwrap(key, wrapped):
    a, decrypt = wrapped[:8], _blocks(key).decryptor()
    blocks = [wrapped[i : i + 8] for i in range(8, len(wrapped), 8)]
    for j in reversed(range(6)):
        for i in reversed(range(len(blocks))):
            t = len(blocks) * j + i + 1
            out = decrypt.update((int.from_bytes(a, "big") ^ t).to_bytes(8, "big") + blocks[i])
            a, blocks[i] = out[:8], out[8:]
    assert a == b"\xa6" * 8
    return b"".join(blocks)


def core(fk, context, suite=1):
    pairs = b""
    for key, value in sorted((k.encode(), v.encode()) for k, v in context.items()):
        pairs += struct.pack(">H", len(key)) + key + struct.pack(">H", len(value)) + value
    start = MAGIC + bytes([1, suite]) + struct.pack(">H", 46 + len(pairs))
    return start + expand(fk, b"asml/v1/commit") + struct.pack(">H", len(context)) + pairs


def core_id(core_bytes):
    return hashlib.sha256(core_bytes).digest()


def kek_body(kek, fk, core_bytes):
    return key_wrap(expand(kek, b"asml/v1/kek" + core_id(core_bytes)), fk)


def dataset_key(header_fk, header_core):
    return expand(header_fk, b"asml/v1/dataset-key" + core_id(header_core))


def dsk_body(dsk, fk, core_bytes):
    return key_wrap(expand(dsk, b"asml/v1/dsk" + core_id(core_bytes)), fk)


def header(fk, core_bytes, slots, unit):
    """Slots are (type, id, body); they are sorted here."""
    slots = sorted((kind, name.encode(), body) for kind, name, body in slots)
    whole = covered = b""
    for kind, name, body in slots:
        named = struct.pack(">HH", kind, len(name)) + name
        rest = struct.pack(">H", len(body)) + body
        whole += named + rest
        covered += named if kind in (3, 4) else named + rest
    needed = len(core_bytes) + 6 + len(whole) + 32
    size = (needed + unit - 1) // unit * unit
    lengths = struct.pack(">IH", size, len(slots))
    padding = bytes(size - needed)
    key = expand(fk, b"asml/v1/header" + core_id(core_bytes))
    return core_bytes + lengths + whole + padding + mac(key, core_bytes + lengths + covered)


def _segment_key(fk, core_bytes, salt):
    root = expand(fk, b"asml/v1/payload" + core_id(core_bytes))
    return AESGCM(expand(mac(salt, root), core_id(core_bytes)))


def payload(fk, core_bytes, plaintext, salt, prefix):
    aead = _segment_key(fk, core_bytes, salt)
    parts, rest = [plaintext[:1048520]], plaintext[1048520:]
    while rest:
        parts.append(rest[:1048560])
        rest = rest[1048560:]
    sealed = b"\x28" + salt + prefix
    for i, part in enumerate(parts):
        nonce = prefix + struct.pack(">I", i) + (b"\x01" if i == len(parts) - 1 else b"\x00")
        sealed += aead.encrypt(nonce, part, None)
    return sealed


def read(file, kek=None, dsk=None, slot_id=None):
    """Open a whole file with the slot named `slot_id` under a KEK or a DSK."""
    assert file[:8] == MAGIC
    assert file[8:10] in (b"\x01\x01", b"\x01\x02")
    core_len = int.from_bytes(file[10:12], "big")
    core_bytes = file[:core_len]
    size, count = struct.unpack_from(">IH", file, core_len)
    at, covered, fk = core_len + 6, b"", None
    for _ in range(count):
        kind, name_len = struct.unpack_from(">HH", file, at)
        named_end = at + 4 + name_len
        (body_len,) = struct.unpack_from(">H", file, named_end)
        end = named_end + 2 + body_len
        body = file[named_end + 2 : end]
        if file[at + 4 : named_end].decode() == slot_id and kind == (1 if kek else 5):
            label = b"asml/v1/kek" if kek else b"asml/v1/dsk"
            fk = key_unwrap(expand(kek or dsk, label + core_id(core_bytes)), body)
        covered += file[at : named_end if kind in (3, 4) else end]
        at = end
    assert expand(fk, b"asml/v1/commit") == core_bytes[12:44]
    assert not any(file[at : size - 32])
    covered = file[: core_len + 6] + covered
    key = expand(fk, b"asml/v1/header" + core_id(core_bytes))
    assert mac(key, covered) == file[size - 32 : size]
    read_payload = _read_payload if file[9] == 1 else _read_cobblestone
    return read_payload(fk, core_bytes, file[size:])


def _read_payload(fk, core_bytes, sealed):
    assert sealed[0] == 40
    salt, prefix = sealed[1:33], sealed[33:40]
    aead, count = _segment_key(fk, core_bytes, salt), -(-len(sealed) // (1 << 20))
    plaintext = b""
    for i in range(count):
        part = sealed[max(i << 20, 40) : (i + 1) << 20]
        nonce = prefix + struct.pack(">I", i) + (b"\x01" if i == count - 1 else b"\x00")
        plaintext += aead.decrypt(nonce, part, None)
    return plaintext


def _cobblestone_keys(fk, core_bytes, salt):
    """Suite 0x02: HKDF-Expand-SHA512 by hand; key, base nonce and commitment."""
    root = expand(fk, b"asml/v1/cobblestone-256" + core_id(core_bytes))
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + core_id(core_bytes)
    one = hmac.new(root, info + b"\x01", hashlib.sha512).digest()
    two = hmac.new(root, one + info + b"\x02", hashlib.sha512).digest()
    okm = (one + two)[:76]
    return AESGCM(okm[:32]), int.from_bytes(okm[32:44], "big"), okm[44:76]


def chunk(fk, core_bytes, salt, index, plaintext):
    """One chunk of suite 0x02; of any length, so that an attacker's can be made."""
    aead, base, _ = _cobblestone_keys(fk, core_bytes, salt)
    return aead.encrypt((base ^ index).to_bytes(12, "big"), plaintext, None)


def cobblestone(fk, core_bytes, plaintext, salt):
    aead, base, commitment = _cobblestone_keys(fk, core_bytes, salt)
    sealed = [salt, commitment]
    for i in range(len(plaintext) // 16384 + 1):
        part = plaintext[i * 16384 : (i + 1) * 16384]
        sealed.append(aead.encrypt((base ^ i).to_bytes(12, "big"), part, None))
    return b"".join(sealed)


def _read_cobblestone(fk, core_bytes, sealed):
    aead, base, commitment = _cobblestone_keys(fk, core_bytes, sealed[:24])
    assert sealed[24:56] == commitment
    count = (len(sealed) - 56) // 16400 + 1
    parts = [sealed[56 + i * 16400 :][:16400] for i in range(count)]
    assert len(parts[-1]) >= 16
    return b"".join(
        aead.decrypt((base ^ i).to_bytes(12, "big"), part, None) for i, part in enumerate(parts)
    )

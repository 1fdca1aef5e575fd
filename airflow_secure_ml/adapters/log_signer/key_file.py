"""A log's signing keys in a file of their own, a line each.

A line is `PRIVATE+KEY+name+id+key`, the form in which Go's note package keeps a signer's key, or
`name+id+key address` with the public half of a key that lies elsewhere and never comes here.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from airflow_secure_ml.core import ed25519, ml_dsa
from airflow_secure_ml.core.audit.log_key import (
    ED25519,
    ML_DSA_65,
    LogKey,
    check_name,
    parse_vkey,
    unpack_key,
)
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import ConfigurationError, FormatError

_KEY_HEAD = "PRIVATE+KEY+"
SEED_BYTES = 32
_SEEDS = {ED25519: SEED_BYTES, ML_DSA_65: SEED_BYTES}
# The chance that two keys of one log have one id is 1 in 4 billion; a third try never comes.
_TRIES = 16

Sign: TypeAlias = Callable[[bytes], bytes]
# What signs with the key at an address, if its public half is this one.
Find: TypeAlias = Callable[[str, bytes], Sign]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyElsewhere:
    """An Ed25519 key in a key system.

    Attributes:
        address: Where it lies, such as `vault://transit?key=log`; no secret is in it.
        public_key: Its public half, 32 bytes.
        sign: Has a message signed.
    """

    address: str
    public_key: bytes
    sign: Sign = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One key of the file.

    Attributes:
        public: Its public half.
        sign: Signs a message.
        text: Its line in the file.
    """

    public: LogKey
    sign: Sign = field(repr=False)
    text: str = field(repr=False)

    def __reduce__(self) -> str:
        # A pickle would carry the key into an XCom or a queue.
        raise TypeError("SigningKey holds a key and cannot be pickled")


def make_keys(
    origin: str,
    *,
    random_bytes: Callable[[int], bytes],
    at: KeyElsewhere | None = None,
    post_quantum: bool = False,
    taken: Collection[bytes] = (),
) -> tuple[SigningKey, ...]:
    """Make a log's keys.

    Args:
        origin: The log's name.
        random_bytes: Gives seeds.
        at: The Ed25519 key that lies elsewhere; None: one is made here.
        post_quantum: Whether an ML-DSA-65 key is made besides; it always lies here.
        taken: Key ids of this log that there are already.

    Raises:
        ConfigurationError: A key elsewhere has an id that is taken.
    """
    first = _make(origin, ED25519, random_bytes, taken) if at is None else _elsewhere(origin, at)
    if first.public.key_id in taken:
        raise ConfigurationError(
            f"log key {first.public.key_id.hex()}: this log has or had a key of that id; make "
            "another key"
        )
    if not post_quantum:
        return (first,)
    ids = [*taken, first.public.key_id]
    return (first, _make(origin, ML_DSA_65, random_bytes, ids))


def parse_keys(text: str, find: Find | None) -> tuple[SigningKey, ...]:
    """Read the file.

    Raises:
        ConfigurationError: A key lies elsewhere, and nothing leads there.
        FormatError: It is damaged, or its keys are not those of one log.
    """
    keys = tuple(_parse_line(line, find) for line in text.splitlines())
    kinds = [key.public.algorithm for key in keys]
    is_one = len({key.public.name for key in keys}) == 1
    if not is_one or kinds not in ([ED25519], [ED25519, ML_DSA_65]):
        raise FormatError(
            "log key file: expected one Ed25519 key, and perhaps one ML-DSA-65 key after it, of "
            "one log; it is damaged"
        )
    return keys


def _make(
    origin: str,
    algorithm: bytes,
    random_bytes: Callable[[int], bytes],
    taken: Collection[bytes],
) -> SigningKey:
    for _ in range(_TRIES):
        key = _of_seed(check_name(origin), algorithm, random_bytes(SEED_BYTES))
        if key.public.key_id not in taken:
            return key
    raise ConfigurationError(f"{origin}: {_TRIES} new keys had an id that is taken; look into it")


def _of_seed(origin: str, algorithm: bytes, seed: bytes) -> SigningKey:
    ref = KeyRef(system="log", name=origin, version="0")
    sign: Sign
    if algorithm == ED25519:
        public_key, sign = ed25519.public_of(seed), ed25519.Ed25519Signer(seed, ref).sign
    else:
        public_key, sign = ml_dsa.public_of(seed), ml_dsa.MlDsaSigner(seed, ref).sign
    public = LogKey(name=origin, public_key=public_key, algorithm=algorithm)
    packed = base64.b64encode(algorithm + seed).decode()
    text = f"{_KEY_HEAD}{origin}+{public.key_id.hex()}+{packed}\n"
    return SigningKey(public=public, sign=sign, text=text)


def _elsewhere(origin: str, at: KeyElsewhere) -> SigningKey:
    public = LogKey(name=check_name(origin), public_key=at.public_key)
    return SigningKey(public=public, sign=at.sign, text=f"{public.vkey()} {at.address}\n")


def _parse_line(line: str, find: Find | None) -> SigningKey:
    if not line.startswith(_KEY_HEAD):
        return _parse_elsewhere(line, find)
    parts = line.removeprefix(_KEY_HEAD).split("+", 2)
    try:
        name, identity, packed = parts
        algorithm, seed = unpack_key(base64.b64decode(packed, validate=True), _SEEDS)
        key = _of_seed(check_name(name), algorithm, seed)
    except (ValueError, FormatError):
        # Not chained: the cause could carry bytes of the key.
        raise FormatError("log key file: not PRIVATE+KEY+name+id+key, or damaged") from None
    if identity != key.public.key_id.hex():
        raise FormatError("log key file: its id does not fit its name and key; it is damaged")
    return key


def _parse_elsewhere(line: str, find: Find | None) -> SigningKey:
    vkey, _, address = line.partition(" ")
    if "://" not in address:
        raise FormatError("log key file: neither a key nor a public key with an address; damaged")
    public = parse_vkey(vkey)

    def sign(message: bytes) -> bytes:
        # Only here: who just asks for the log's name needs no key system.
        if find is None:
            raise ConfigurationError(
                f"log key {public.key_id.hex()}: lies at {address}, and only `secure-ml audit "
                "signer` reaches it: run that, and set [secure_ml] audit_signer_socket"
            )
        return find(address, public.public_key)(message)

    return SigningKey(public=public, sign=sign, text=f"{line}\n")

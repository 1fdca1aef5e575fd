"""A witness's directory: its key, and the logs that it knows.

`witness.key` (0600) is one line `PRIVATE+KEY+name+id+key`, the form in which Go's note package
keeps a signer's key, with signature type 0x04; `logs` holds lines of logs' `log_keys`.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from airflow_secure_ml.core import ed25519
from airflow_secure_ml.core.audit.cosignature import COSIGNATURE, CosignerKey
from airflow_secure_ml.core.audit.log_key import LogKey, check_name, parse_log_keys
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.durable_files import whole_file
from airflow_secure_ml.errors import ConfigurationError, FormatError

KEY_FILE, LOGS_FILE = "witness.key", "logs"
MAX_LOGS_BYTES = 1 << 20
_MAX_KEY_BYTES = 1024
_HEAD = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey:
    """A witness's key.

    Attributes:
        public: Its public half.
        sign: Signs a message.
    """

    public: CosignerKey
    sign: Callable[[bytes], bytes] = field(repr=False)

    def __reduce__(self) -> str:
        # A pickle would carry the key elsewhere.
        raise TypeError("WitnessKey holds a key and cannot be pickled")


def init_witness(
    directory: Path, name: str, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> CosignerKey:
    """Make a witness's key, once, and an empty list of logs; returns the public half.

    Raises:
        ConfigurationError: A key is there already.
        FormatError: The name cannot stand in a note.
    """
    check_name(name)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = random_bytes(ed25519.SEED_BYTES)
    key = _of_seed(name, seed)
    packed = base64.b64encode(COSIGNATURE + seed).decode()
    text = f"{_HEAD}{name}+{key.public.key_id.hex()}+{packed}\n"
    try:
        _create(directory / KEY_FILE, text)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{directory / KEY_FILE}: a witness key is there already; it is never replaced"
        ) from error
    if not (directory / LOGS_FILE).exists():
        _create(
            directory / LOGS_FILE, "# a line of log_keys for each log: vkey from_size to_size\n"
        )
    return key.public


def read_witness_key(directory: Path) -> WitnessKey:
    """Read the key.

    Raises:
        ConfigurationError: There is none, or others can read it.
        FormatError: It is damaged.
    """
    path = directory / KEY_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror}; make one with `secure-ml audit witness --init`"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            raise ConfigurationError(f"{path}: expected a file of mode 0600")
        if found.st_uid not in (os.getuid(), 0):
            raise ConfigurationError(f"{path}: it belongs to another user")
        data = file.read(_MAX_KEY_BYTES)
    return _parse(data)


def read_logs(directory: Path) -> tuple[LogKey, ...]:
    """Read the keys of the logs that the witness knows.

    Raises:
        ConfigurationError: The file cannot be read, is too long, or names no log.
        FormatError: A line is not one of `log_keys`.
    """
    path = directory / LOGS_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOGS_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected lines of log_keys: {error}") from error
    if len(data) > MAX_LOGS_BYTES:
        raise ConfigurationError(f"{path}: longer than {MAX_LOGS_BYTES} bytes")
    keys = parse_log_keys(text)
    if not keys:
        raise ConfigurationError(f"{path}: names no log; add the line of each log's log_keys")
    return keys


def _create(path: Path, text: str) -> None:
    # A name of its own: whoever else makes a key here at once writes another one.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with whole_file(path, aside, is_new=True) as file:
        file.write(text.encode("utf-8"))


def _of_seed(name: str, seed: bytes) -> WitnessKey:
    public = CosignerKey(name=name, public_key=ed25519.public_of(seed))
    ref = KeyRef(system="witness", name=name, version="0")
    return WitnessKey(public=public, sign=ed25519.Ed25519Signer(seed, ref).sign)


def _parse(data: bytes) -> WitnessKey:
    try:
        line = data.decode("utf-8")
        name, identity, packed = line.removeprefix(_HEAD).removesuffix("\n").split("+", 2)
        found = base64.b64decode(packed, validate=True)
        if not line.startswith(_HEAD) or found[:1] != COSIGNATURE:
            raise ValueError
        key = _of_seed(check_name(name), found[1:])
    except (ValueError, FormatError):
        # Not chained: the cause could carry bytes of the key.
        raise FormatError("witness key file: not PRIVATE+KEY+name+id+key, or damaged") from None
    if identity != key.public.key_id.hex():
        raise FormatError("witness key file: its id does not fit its name and key; it is damaged")
    return key

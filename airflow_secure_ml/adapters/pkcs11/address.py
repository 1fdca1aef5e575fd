"""The address of keys in a token: `pkcs11://<token label>/<object label>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_secure_ml.errors import ConfigurationError

SCHEME = "pkcs11://"
# A token's label has 32 bytes; its blanks could not stand in a slot's id.
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ADDRESS = re.compile(rf"{SCHEME}({_LABEL})(?:/({NAME.pattern}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAddress:
    """A token, or one key in it.

    Attributes:
        token: The token's label.
        key: What the key's objects are labelled before the number of their version; None: as
            our name for it.
    """

    token: str
    key: str | None = None


def parse_token_address(address: str) -> TokenAddress:
    """Read `pkcs11://<token label>` or `pkcs11://<token label>/<object label>`.

    Raises:
        ConfigurationError: Anything else in it; of what follows the scheme nothing is shown, since
            it may hold a PIN.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigurationError(
            f"key system {SCHEME}…: expected {SCHEME}<token label>, in key_names "
            f"{SCHEME}<token label>/<object label>, and nothing else in it: labels of letters, "
            "digits, '_', '.' and '-'. Library and PIN file are options: pkcs11_module, "
            "pkcs11_pin_path"
        )
    return TokenAddress(token=found[1], key=found[2])

"""A token in software, SoftHSM, with a folder, a configuration and a PIN of its own.

Its library reads the configuration when it is initialised, so a process has one such folder.
"""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.pkcs11.keys import TokenKeys
from airflow_secure_ml.adapters.pkcs11.token import Token

LIBRARIES = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
]
_numbers = itertools.count(1)


class SoftHsm:
    """Tokens in a folder.

    Args:
        folder: An empty folder.
        labels: One token is made for each.
    """

    def __init__(self, folder: Path, labels: tuple[str, ...] = ("team",)) -> None:
        self.folder, self.label = folder, labels[0]
        self.pin, self.pin_path = secrets.token_hex(8), folder / "pin"
        self.module = Path(next(path for path in LIBRARIES if Path(path).exists()))
        self.config = folder / "softhsm2.conf"
        (folder / "tokens").mkdir()
        self.config.write_text(
            f"directories.tokendir = {folder / 'tokens'}\n"
            "objectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
        )
        self.pin_path.touch(mode=0o600)
        self.pin_path.write_text(f"{self.pin}\n")
        for label in labels:
            self.tool("--init-token", "--free", "--label", label, "--so-pin", secrets.token_hex(8))

    @property
    def environment(self) -> dict[str, str]:
        """What the library needs to find the tokens."""
        return {"SOFTHSM2_CONF": str(self.config)}

    def tool(self, *arguments: str) -> None:
        """Run SoftHSM's own tool."""
        subprocess.run(
            ["softhsm2-util", *arguments, "--pin", self.pin],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def token(self, label: str | None = None, pin_path: Path | None = None) -> Token:
        """A token of ours."""
        at = pin_path or self.pin_path
        return Token(label or self.label, module=self.module, pin_path=at)

    def place(self) -> TokenPlace:
        """A part of the token that no other test uses."""
        return TokenPlace(self)


class TokenPlace:
    """Names of keys that are this test's alone.

    Args:
        hsm: Where they lie.
    """

    def __init__(self, hsm: SoftHsm) -> None:
        self.hsm, self._number = hsm, next(_numbers)
        self.token = hsm.token()

    def at(self, name: str) -> str:
        """What a name of ours is called in the token."""
        return f"{name}-{self._number}"

    def keys(self, wraps: tuple[str, ...] = ("data",)) -> TokenKeys:
        """The key system of these names."""
        names = {name: self.at(name) for name in ("data", "pipeline", "other", "nokey")}
        return TokenKeys(self.token, names=names, wraps=wraps)

    def session(self, act: Any) -> Any:
        """Do something in a session as the token's user, past the adapter's own rules."""
        return self.token.use("prepare a test", act)

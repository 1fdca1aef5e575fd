"""Fuzz what outsiders verify: any bytes get a verdict, and `whole` only what was signed."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

from mutations import Finding, main

from airflow_secure_ml.verifier import verify

NAME = "verifier"
VKEY = "example.org/asml-trail/7f3a9c20+677f7721+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\n"
# Of the worked example: 10 leaves.
ROOT = "8d45fdcea534e62e36c252a2684b527a1084a0c2a0150bc36a0a1a56b7bfc19d"
VERDICTS = {verify.WHOLE, verify.TAMPERED, verify.INCOMPLETE, verify.CANNOT_TELL}


def verdict(data: bytes) -> tuple[int, str]:
    """The exit status over these bytes, and the root that was found."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(said):
        what, keys = Path(name) / "what", Path(name) / "keys"
        what.write_bytes(data)
        keys.write_text(VKEY)
        with contextlib.redirect_stderr(io.StringIO()):
            status = verify.main([str(what), "--keys", str(keys), "--json"])
    return status, json.loads(said.getvalue())["root"] if status in VERDICTS else ""


def target(data: bytes) -> None:
    """Verify `data` as whatever it begins like; nothing may be raised."""
    status, root = verdict(data)
    if status not in VERDICTS | {verify.WRONG_USE, verify.OTHER_SYSTEM}:
        raise Finding(f"a status {status}")
    if status == verify.WHOLE and root != ROOT:
        raise Finding("whole, and not what was signed")


if __name__ == "__main__":
    main(NAME, target)

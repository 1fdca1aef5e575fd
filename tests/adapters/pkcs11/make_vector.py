"""Wrote tests/vectors/v1/pkcs11/document.json once, with SoftHSM; it refuses to write again.

    python tests/adapters/pkcs11/make_vector.py

The file is the independent implementation's; only the slot's body is the token's, whose key was
brought along so that anybody can check it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[2]
sys.path.insert(0, str(TESTS.parent))
TARGET = TESTS / "vectors" / "v1" / "pkcs11" / "document.json"
FILE_KEY, SALT, PREFIX = bytes(range(0x20, 0x40)), bytes(range(0x40, 0x60)), bytes(range(7))
KEY, NONCE = bytes(range(0x60, 0x80)), bytes(range(0x80, 0x8C))
CONTEXT, PLAINTEXT = {"dataset": "d1", "path": "a/b"}, b"hello"
TOKEN, NAME, VERSION = "team", "document", "3"


def main():
    from airflow_secure_ml.adapters.pkcs11.wrapper import TokenWrapper
    from airflow_secure_ml.core.ports import KeyRef
    from tests.adapters.pkcs11.bringing import put_secret
    from tests.servers.softhsm import SoftHsm

    path = TESTS / "core" / "sealed_file" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    core = reference.core(FILE_KEY, CONTEXT)
    core_id = reference.core_id(core)
    with tempfile.TemporaryDirectory() as folder:
        hsm = SoftHsm(Path(folder), (TOKEN,))
        os.environ.update(hsm.environment)
        token = hsm.token()
        put_secret(token, f"{NAME}/{VERSION}", KEY)
        ref = KeyRef(system="pkcs11", name=NAME, version=VERSION)
        wrapper = TokenWrapper(token, NAME, ref, random_bytes=lambda size: NONCE[:size])
        body = wrapper.wrap(FILE_KEY, core_id)
    header = reference.header(FILE_KEY, core, [(6, wrapper.slot_id, body)], 512)
    payload = reference.payload(FILE_KEY, core, PLAINTEXT, SALT, PREFIX)
    vector = {
        "slot_id": wrapper.slot_id,
        "key": KEY.hex(),
        "nonce": NONCE.hex(),
        "file_key": FILE_KEY.hex(),
        "context": CONTEXT,
        "core_id": core_id.hex(),
        "plaintext": PLAINTEXT.hex(),
        "body": body.hex(),
        "file": (header + payload).hex(),
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with open(TARGET, "x") as target:
        json.dump(vector, target, indent=1)
        target.write("\n")


if __name__ == "__main__":
    main()

"""Wrote tests/vectors/v1/transit/document.json once, with a real Vault; it refuses to write again.

    python tests/adapters/vault/make_transit_vector.py

The files are the independent implementation's; only the slots' bodies are Vault's. The key can be
backed up in plain, which no key of a deployment should, so that the file opens on any Vault.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[2]
sys.path.insert(0, str(TESTS.parent))
TARGET = TESTS / "vectors" / "v1" / "transit" / "document.json"
MOUNT, NAME = "asml-vectors", "document"
FILE_KEY, SALT, PREFIX = bytes(range(0x20, 0x40)), bytes(range(0x40, 0x60)), bytes(range(7))
CONTEXT, PLAINTEXT = {"dataset": "d1", "path": "a/b"}, b"hello"


def main():
    from dags_examples.demo.vault_server import RunningVault
    from tests.servers import build, vault_setup

    path = TESTS / "core" / "sealed_file" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    core = reference.core(FILE_KEY, CONTEXT)
    core_id = reference.core_id(core)

    def text(data):
        return base64.b64encode(data).decode()

    def file(body):
        slots = [(3, f"{MOUNT}/{NAME}", body.encode())]
        header = reference.header(FILE_KEY, core, slots, 512)
        return (header + reference.payload(FILE_KEY, core, PLAINTEXT, SALT, PREFIX)).hex()

    binary = build.obtain(build.SERVERS["vault"])
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningVault(binary=binary, folder=Path(folder) / "vault") as vault,
    ):
        vault_setup.enable_engine(vault, "transit", MOUNT)
        order = {"derived": True, "exportable": True, "allow_plaintext_backup": True}
        vault.api("POST", f"{MOUNT}/keys/{NAME}", {"type": "aes256-gcm96"} | order)
        asked = {"plaintext": text(FILE_KEY), "context": text(core_id)}
        first = vault.api("POST", f"{MOUNT}/encrypt/{NAME}", asked)["data"]["ciphertext"]
        vault.api("POST", f"{MOUNT}/keys/{NAME}/rotate", {})
        asked = {"ciphertext": first, "context": text(core_id)}
        second = vault.api("POST", f"{MOUNT}/rewrap/{NAME}", asked)["data"]["ciphertext"]
        backup = vault.api("GET", f"{MOUNT}/backup/{NAME}")["data"]["backup"]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with open(TARGET, "x") as target:
        vector = {
            "slot_id": f"{MOUNT}/{NAME}",
            "file_key": FILE_KEY.hex(),
            "salt": SALT.hex(),
            "prefix": PREFIX.hex(),
            "context": CONTEXT,
            "core_id": core_id.hex(),
            "plaintext": PLAINTEXT.hex(),
            "bodies": [first, second],
            "files": [file(first), file(second)],
            "backup": backup,
        }
        json.dump(vector, target, indent=1)
        target.write("\n")


if __name__ == "__main__":
    main()

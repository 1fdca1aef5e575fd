"""Wrote tests/vectors/v1/kms/document.json once; it refuses to write again.

    python tests/adapters/aws/kms/make_vector.py

The file is the independent implementation's. What KMS would answer cannot be known without its
key: the body is any bytes, and the vector says what KMS must be asked about them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

TESTS = Path(__file__).parents[3]
TARGET = TESTS / "vectors" / "v1" / "kms" / "document.json"
ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FILE_KEY, SALT, PREFIX = bytes(range(0x20, 0x40)), bytes(range(0x40, 0x60)), bytes(range(7))
CONTEXT, PLAINTEXT = {"dataset": "d1", "path": "a/b"}, b"hello"
BODY = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(6))


def main():
    path = TESTS / "core" / "sealed_file" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    core = reference.core(FILE_KEY, CONTEXT)
    core_id = reference.core_id(core)
    header = reference.header(FILE_KEY, core, [(4, ARN, BODY)], 512)
    payload = reference.payload(FILE_KEY, core, PLAINTEXT, SALT, PREFIX)
    vector = {
        "slot_id": ARN,
        "file_key": FILE_KEY.hex(),
        "context": CONTEXT,
        "core_id": core_id.hex(),
        "plaintext": PLAINTEXT.hex(),
        "body": BODY.hex(),
        "decrypt": {
            "KeyId": ARN,
            "EncryptionContext": {"asml-core": core_id.hex()},
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        },
        "file": (header + payload).hex(),
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with open(TARGET, "x") as target:
        json.dump(vector, target, indent=1)
        target.write("\n")


if __name__ == "__main__":
    main()

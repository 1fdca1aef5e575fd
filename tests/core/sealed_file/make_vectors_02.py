"""Wrote vectors/v1/sealed_file_02 once, with `reference`; it never writes a file again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "vectors" / "v1" / "sealed_file_02"
spec = importlib.util.spec_from_file_location("reference", HERE / "reference.py")
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)

KEK = bytes(range(32))
FK = bytes(range(0x20, 0x40))
SALT = bytes(range(0x40, 0x58))
CONTEXT = {"dataset": "d1", "path": "a/b"}
CHUNK = 16384
LENGTHS = {
    "empty": 0,
    "one-byte": 1,
    "document": 5,
    "one-chunk-less-1": CHUNK - 1,
    "one-chunk": CHUNK,
    "one-chunk-and-1": CHUNK + 1,
    "large-header-first": 65536,
    "64-chunks-less-1": 64 * CHUNK - 1,
    "64-chunks": 64 * CHUNK,
    "64-chunks-and-1": 64 * CHUNK + 1,
    "128-chunks": 128 * CHUNK,
}


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def vector(name, length):
    plaintext = b"hello" if name == "document" else pattern(length)
    core = ref.core(FK, CONTEXT, suite=2)
    slots = [(1, "team/3", ref.kek_body(KEK, FK, core))]
    header = ref.header(FK, core, slots, 512 if length < 65536 else 4096)
    file = header + ref.cobblestone(FK, core, plaintext, SALT)
    whole = {"file": file.hex()} if len(file) < 20000 else {"header": header.hex()}
    return {
        "name": name,
        "file_key": FK.hex(),
        "salt": SALT.hex(),
        "kek": KEK.hex(),
        "context": CONTEXT,
        "plaintext_bytes": length,
        "plaintext_sha256": hashlib.sha256(plaintext).hexdigest(),
        "header_bytes": len(header),
        "core_id": ref.core_id(core).hex(),
        "payload_bytes": len(file) - len(header),
        "sha256": hashlib.sha256(file).hexdigest(),
        **whole,
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, length in LENGTHS.items():
        with (FOLDER / f"{name}.json").open("x") as file:
            json.dump(vector(name, length), file, indent=1)
            file.write("\n")

"""Wrote tests/vectors/v1/sealed_file once, with `reference`; it refuses to write a file again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "vectors" / "v1" / "sealed_file"
spec = importlib.util.spec_from_file_location("reference", HERE / "reference.py")
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)

KEK = bytes(range(32))
FK = bytes(range(0x20, 0x40))
SALT = bytes(range(0x40, 0x60))
PREFIX = bytes(range(7))
CONTEXT = {"dataset": "d1", "path": "a/b"}
DOCUMENT = "ad0f02c82d257749fccc644f1cb3c7cba94835289366c7fa80aa36bf301aab4d"


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def vector(name, plaintext, *, context=CONTEXT, keks=None, extra=(), dsk=None, known=True):
    keks = keks or {"team/3": KEK}
    core = ref.core(FK, context)
    slots = [(1, slot_id, ref.kek_body(kek, FK, core)) for slot_id, kek in keks.items()]
    slots += [(kind, slot_id, bytes.fromhex(body)) for kind, slot_id, body in extra]
    header_file = None
    if dsk is not None:
        header_file, dataset_key, dataset_id = dsk
        slots.append((5, dataset_id, ref.dsk_body(dataset_key, FK, core)))
    small = known and len(plaintext) < 65536
    header = ref.header(FK, core, slots, 512 if small else 4096)
    file = header + ref.payload(FK, core, plaintext, SALT, PREFIX)
    whole = {"file": file.hex()} if len(file) < 20000 else {"header": header.hex()}
    return {
        "name": name,
        "file_key": FK.hex(),
        "salt": SALT.hex(),
        "prefix": PREFIX.hex(),
        "context": context,
        "keks": {slot_id: kek.hex() for slot_id, kek in keks.items()},
        "extra_slots": [list(slot) for slot in extra],
        "dataset_header": header_file and header_file.hex(),
        "plaintext_bytes": len(plaintext),
        "plaintext_hello": plaintext == b"hello",
        "length_known": known,
        "header_bytes": len(header),
        "core_id": ref.core_id(core).hex(),
        "sha256": hashlib.sha256(file).hexdigest(),
        **whole,
    }


def dataset():
    header_fk, context = bytes(range(0x60, 0x80)), {"dataset": "d1"}
    core = ref.core(header_fk, context, suite=0x10)
    header = ref.header(header_fk, core, [(1, "team/3", ref.kek_body(KEK, header_fk, core))], 512)
    return header, ref.dataset_key(header_fk, core), ref.core_id(core).hex()


def largest_context():
    # 46 + 15 * (2 + 1 + 2 + 1024) + (2 + 1 + 2 + 898) = 16384
    context = {chr(ord("a") + i): "v" * 1024 for i in range(15)} | {"z": "v" * 898}
    assert len(ref.core(FK, context)) == 16384
    return context


def main():
    others = [
        [2, "ab" * 32, "002000010002" + "11" * 80],
        [2, "cd" * 32, "647a00010002" + "22" * 1168],
        [3, "transit/data", b"vault:v12:QUJDREVGR0g=".hex()],
        [4, "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab", "33"],
        [65535, "anything!~", "44" * 9],
    ]
    keks = {f"team/{i:02}": bytes([i]) * 32 for i in range(64)}
    vectors = [
        vector("document", b"hello"),
        vector("empty", b""),
        vector("one-byte", pattern(1)),
        vector("stream-of-unknown-length", b"hello", known=False),
        vector("small-header-last", pattern(65535)),
        vector("large-header-first", pattern(65536)),
        vector("first-segment-full-less-1", pattern(1048519)),
        vector("first-segment-full", pattern(1048520)),
        vector("first-segment-full-and-1", pattern(1048521)),
        vector("two-segments-full", pattern(1048520 + 1048560)),
        vector("two-segments-full-and-1", pattern(1048520 + 1048560 + 1)),
        vector("64-pairs", b"hello", context={f"k{i:02}": "v" * i for i in range(64)}),
        vector("no-pairs", b"hello", context={}),
        vector("largest-core", b"hello", context=largest_context()),
        vector("utf-8-values", b"hello", context={"nfc": "\u00e9", "nfd": "e\u0301", "c1": "\x85"}),
        vector("64-slots", b"hello", keks=keks),
        vector("every-type-of-slot", b"hello", extra=others),
        vector("data-set-key-and-kek", b"hello", dsk=dataset()),
    ]
    assert vectors[0]["sha256"] == DOCUMENT
    FOLDER.mkdir(parents=True, exist_ok=True)
    for made in vectors:
        with open(FOLDER / f"{made['name']}.json", "x") as file:
            json.dump(made, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()

"""Verify an audit trail of airflow-secure-ml without it: this file, Python 3.10, `cryptography`.

    python verify.py WHAT --keys FILE [--checkpoint FILE] [--witness-keys FILE --witnesses N]

WHAT is an evidence pack (a zip, or unpacked), a folder of tlog-tiles, a .tlog-proof, or a copy of
trail.db. The keys come from elsewhere: those that lie beside the log are not looked at.
Exit: 0 whole, 1 tampered, 4 incomplete, 5 cannot tell; 2 wrong use, 3 another system failed.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import errno
import hashlib
import heapq
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WHOLE, TAMPERED, WRONG_USE, OTHER_SYSTEM, INCOMPLETE, CANNOT_TELL = 0, 1, 2, 3, 4, 5
WORDS = {WHOLE: "whole", TAMPERED: "TAMPERED", INCOMPLETE: "incomplete", CANNOT_TELL: "cannot tell"}
EMPTY_ROOT = hashlib.sha256(b"").digest()
CHUNK, WIDTH, HASH = 1024, 256, 32
MAX_LEAF, MAX_NOTE, MAX_PROOF, MAX_VALUES = 32768, 16384, 65536, 1 << 28
ED25519, COSIGNATURE, ML_DSA = b"\x01", b"\x04", b"\xffasml/v1/ml-dsa-65\x00"
KEY_BYTES = {ED25519: 32, COSIGNATURE: 32, ML_DSA: 1952}
# Of the tables, indices, views and triggers of each format: kind, name and SQL of each, sorted.
SCHEMAS = {
    1: "ff8a54657a28aa5ea31f8dec9da15b1725a1448f9414fdb0cca0f2e3350e2f4f",
    2: "2449f46f6a4f86198a99a0d223213b5ea747304bf78e1e7045e9099e3f88194c",
}
STATISTICS = {"sqlite_stat1", "sqlite_stat3", "sqlite_stat4"}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# The file may be whole and cannot be read now: busy, locked, read-only, I/O, full, no memory …
UNAVAILABLE = {5, 6, 7, 8, 9, 10, 13, 14}
SEQUENCERS_OWN = {
    *("trail.start", "trail.emitter", "trail.refused", "trail.beat", "trail.prune", "trail.hold"),
}


class Fault(Exception):
    """Why it is not whole: a status, the reason, the first bad leaf if there is one."""

    def __init__(self, status: int, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.index = status, index


class WrongUseError(Exception):
    """What was asked for makes no sense."""


class UnknownSigner(Fault):
    """No line of a note is of a key that is known for its size."""


@dataclass
class Report:
    """What was found; `first_bad` is the first leaf that is wrong."""

    status: int = WHOLE
    kind: str = ""
    origin: str = ""
    size: int = 0
    checked: int = 0
    root: str = EMPTY_ROOT.hex()
    checkpoints: int = 0
    signed_size: int = 0
    kept_size: int | None = None
    first_bad: int | None = None
    problem: str = ""
    ends: dict[str, int] = field(default_factory=dict)
    cosigned_by: list[str] = field(default_factory=list)
    values: int = 0
    pruned_below: int = 0
    stamp: str = ""


# ---- hashes: RFC 6962, 2.1


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def full_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


class Tree:
    """A tree that grows leaf by leaf, and the tiles that become full."""

    def __init__(self) -> None:
        self.size = 0
        self.nodes: list[bytes] = []
        self.open: list[list[bytes]] = [[]]
        self.full = [0]

    def add(self, hashed: bytes) -> list[tuple[int, int, bytes]]:
        merged, rest = hashed, self.size
        while rest & 1:
            merged, rest = node_hash(self.nodes.pop(), merged), rest >> 1
        self.nodes.append(merged)
        self.size += 1
        self.open[0].append(hashed)
        filled, level = [], 0
        while len(self.open[level]) == WIDTH:
            hashes, self.open[level] = self.open[level], []
            filled.append((level, self.full[level], b"".join(hashes)))
            self.full[level] += 1
            level += 1
            if level == len(self.open):
                self.open.append([])
                self.full.append(0)
            self.open[level].append(full_root(hashes))
        return filled

    def root(self) -> bytes:
        found = self.nodes[-1] if self.nodes else EMPTY_ROOT
        for left in reversed(self.nodes[:-1]):
            found = node_hash(left, found)
        return found


def root_from_path(index: int, size: int, hashed: bytes, path: Sequence[bytes]) -> bytes:
    """RFC 9162, 2.1.3.2."""
    here, last, found = index, size - 1, hashed
    for sibling in path:
        if last == 0:
            raise Fault(TAMPERED, f"the path of leaf {index} is too long", index)
        if here & 1 or here == last:
            found = node_hash(sibling, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise Fault(TAMPERED, f"the path of leaf {index} is too short", index)
    return found


def check_growth(old: int, older: bytes, new: int, newer: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162, 2.1.4.2: the first `old` of `new` leaves are the older tree."""
    fault = Fault(TAMPERED, f"the log's first {old} leaves are not those of the kept checkpoint")
    if old in (0, new):
        if proof or older != (newer if old else EMPTY_ROOT):
            raise fault
        return
    path = [older, *proof] if old & (old - 1) == 0 else list(proof)
    here, last = old - 1, new - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    if not path:
        raise fault
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise fault
        if here & 1 or here == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        here, last = here >> 1, last >> 1
    if last or first != older or second != newer:
        raise fault


# ---- notes, checkpoints, keys: C2SP signed-note, tlog-checkpoint, tlog-cosignature


@dataclass(frozen=True)
class Key:
    """A public key, and the sizes that it may have signed."""

    name: str
    algorithm: bytes
    raw: bytes
    first: int = 0
    last: int | None = None

    @property
    def id(self) -> bytes:
        text = self.name.encode() + b"\n" + self.algorithm + self.raw
        return hashlib.sha256(text).digest()[:4]

    def vkey(self) -> str:
        packed = base64.b64encode(self.algorithm + self.raw).decode()
        return f"{self.name}+{self.id.hex()}+{packed}"

    def public(self) -> Any:
        if self.algorithm != ML_DSA:
            return Ed25519PublicKey.from_public_bytes(self.raw)
        try:
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

            return MLDSA65PublicKey.from_public_bytes(self.raw)
        except (ImportError, UnsupportedAlgorithm) as error:
            raise Fault(CANNOT_TELL, "ML-DSA-65 needs a newer cryptography library") from error

    def holds(self, signature: bytes, text: bytes) -> bool:
        if self.algorithm == COSIGNATURE:
            when, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            text = f"cosignature/v1\ntime {when}\n".encode() + text
        try:
            self.public().verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Note:
    """A checkpoint and the lines below it: (name, key id, signature)."""

    text: str
    origin: str
    size: int
    root: bytes
    lines: tuple[tuple[str, bytes, bytes], ...]


def unbase64(text: str, what: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Fault(TAMPERED, f"{what} is not base64") from None
    if base64.b64encode(found).decode() != text:
        raise Fault(TAMPERED, f"{what} is not canonical base64")
    return found


def parse_keys(text: str, *algorithms: bytes) -> list[Key]:
    """Lines `vkey [from_size to_size]`; keys of other algorithms are passed over."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            name, identity, packed = words[0].split("+", 2)
            both = base64.b64decode(packed, validate=True)
            first, last = (words[1], words[2]) if len(words) == 3 else ("0", "-")
            sizes = int(first), None if last == "-" else int(last)
            is_line = len(words) in (1, 3)
        except (ValueError, IndexError):
            is_line = False
        if not is_line:
            raise WrongUseError(f"keys, line {number}: expected `name+id+key [from_size to_size]`")
        for kind in algorithms:
            if both.startswith(kind) and len(both) == len(kind) + KEY_BYTES[kind]:
                key = Key(name, kind, both[len(kind) :], *sizes)
                if key.id.hex() != identity:
                    raise WrongUseError(f"keys, line {number}: its id does not fit its key")
                found.append(key)
    return found


def parse_witnesses(text: str) -> list[Key]:
    """Witnesses' keys, each once: a cosignature of a key holds under any name."""
    found = parse_keys(text, COSIGNATURE)
    if len({key.raw for key in found}) != len(found):
        raise WrongUseError("witness keys: a key stands there twice and would count as two")
    return found


def parse_note(text: str) -> Note:
    """Read a note; nothing is verified yet."""
    body, between, tail = text.rpartition("\n\n")
    is_long = len(text.encode("utf-8", "replace")) > MAX_NOTE
    if is_long or any(ord(c) < 32 and c != "\n" for c in text):
        raise Fault(TAMPERED, "a checkpoint is too long or holds a control character")
    head = (body + "\n").split("\n")
    if not between or not tail.endswith("\n") or len(head) != 4 or not head[0]:
        raise Fault(TAMPERED, "a checkpoint is not three lines and signatures")
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", head[1], re.ASCII):
        raise Fault(TAMPERED, "a checkpoint's size is not a number")
    root = unbase64(head[2], "a checkpoint's root")
    lines = []
    for line in tail[:-1].split("\n"):
        words = line.split(" ")
        if len(words) != 3 or words[0] != "\u2014" or not re.fullmatch(r"[^\s+]{1,512}", words[1]):
            raise Fault(TAMPERED, "a signature line is not `\u2014 name base64`")
        packed = unbase64(words[2], "a signature")
        if len(packed) < 5:
            raise Fault(TAMPERED, "a signature is too short")
        lines.append((words[1], packed[:4], packed[4:]))
    if len(root) != HASH or len(lines) > 100:
        raise Fault(TAMPERED, "a checkpoint's root is not 32 bytes, or it has over 100 signatures")
    return Note(body + "\n", head[0], int(head[1]), root, tuple(lines))


def signers(note: Note, keys: Sequence[Key]) -> list[Key]:
    """The keys that signed; a known one whose signature fails is a fault."""
    known, found = {(key.name, key.id): key for key in keys}, []
    for name, identity, signature in note.lines:
        key = known.get((name, identity))
        if key is None:
            continue
        if not key.holds(signature, note.text.encode()):
            raise Fault(TAMPERED, f"the signature of {name} on a checkpoint fails")
        found.append(key)
    return found


def open_note(text: str, keys: Sequence[Key], origin: str | None = None) -> Note:
    """Read a checkpoint that a key of its log signed."""
    note = parse_note(text)
    if origin is not None and note.origin != origin:
        raise Fault(TAMPERED, f"a checkpoint is of log {note.origin!r}, not {origin!r}")
    usable = [
        key
        for key in keys
        if key.name == note.origin
        and key.first <= note.size
        and (key.last is None or note.size <= key.last)
    ]
    kinds = {key.algorithm for key in signers(note, usable)}
    # Else who breaks one kind of signature would leave the other away.
    if not kinds or kinds != {key.algorithm for key in usable}:
        raise UnknownSigner(
            TAMPERED, f"a checkpoint over {note.size} is signed by no key known for it"
        )
    return note


# ---- events: canonical JSON, and the fields of version 1


def _like(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value, re.ASCII))


def _int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _int(value) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _among(*words: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _hidden(value: Any) -> bool:
    is_one = isinstance(value, dict) and set(value) == {"h", "n"}
    return is_one and _like("[0-9a-f]{64}")(value["h"]) and _count(value["n"])


_DIGEST = _like("sha256:[0-9a-f]{64}")
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "v": _count,
    "emitter": _like("[0-9a-f]{32}"),
    "seq": _count,
    "prev": _like("[0-9a-f]{64}"),
    "time": _int,
    "mono": _count,
    "act": _like("[a-z][a-z0-9_.]{0,63}"),
    "phase": _among("intent", "outcome", "seen"),
    "result": _among("ok", "refused", "failed", "unknown"),
    "why": _like("[a-z][a-z0-9_]{0,31}"),
    "of": _like("[0-9a-f]{32}:(0|[1-9][0-9]{0,15})"),
    "more": lambda value: isinstance(value, dict),
    "by": _hidden,
}
_PARTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "object": {
        **dict.fromkeys(("name", "uri", "version"), _text),
        **dict.fromkeys(("bytes", "rows"), _count),
        "digest": _DIGEST,
    },
    "key": dict.fromkeys(("system", "name", "version"), _text),
    "lease": {"path": _text, "id": _DIGEST, "ttl_s": _count},
    "rule": {"id": _text, "digest": _text, "decision": _among("allow", "deny")},
    "run": {**dict.fromkeys(("dag", "run", "task", "ti"), _text), "map": _int, "try": _int},
}
_NEVER_HIDDEN = {("run", "dag"), ("run", "ti"), ("run", "map"), ("run", "try")}


def _walk(value: Any, depth: int = 1) -> bool:
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, int):
        return abs(value) < 2**53
    if depth > 4 or not isinstance(value, (dict, list)):
        return False
    if isinstance(value, list):
        return all(_walk(inner, depth + 1) for inner in value)
    keys = all(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", key, re.ASCII) for key in value)
    return keys and all(_walk(inner, depth + 1) for inner in value.values())


def _fields_fit(event: dict[str, Any]) -> bool:
    for name, value in event.items():
        if name in _FIELDS and not _FIELDS[name](value):
            return False
        if name not in _PARTS:
            continue
        if not isinstance(value, dict) or (name == "run" and "dag" not in value):
            return False
        for inner, found in value.items():
            test = _PARTS[name].get(inner)
            may_hide = (name, inner) not in _NEVER_HIDDEN
            if test and not test(found) and not (may_hide and _hidden(found)):
                return False
    return True


def read_event(data: bytes) -> dict[str, Any] | None:
    """A leaf's event; None: its bytes are none."""
    if len(data) > MAX_LEAF:
        return None
    try:
        event = json.loads(data.decode("utf-8"))
        if not isinstance(event, dict) or not _walk(event):
            return None
        again = json.dumps(event, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        if again.encode("utf-8") != data or not _int(event.get("v")) or event["v"] != 1:
            return None
    except (ValueError, RecursionError):
        return None
    needed = {"emitter", "seq", "time", "mono", "act", "phase"}
    if not needed <= event.keys() or not _fields_fit(event):
        return None
    fits = ("prev" in event) == (event["seq"] > 0)
    fits &= ("result" in event) != (event["phase"] == "intent")
    fits &= ("why" in event) == (event.get("result") in ("refused", "failed"))
    return event if fits else None


# ---- a whole log: leaves, chains, tiles, checkpoints


@dataclass
class Chain:
    """One emitter's events so far."""

    next_seq: int = 0
    last: bytes | None = None
    newest: int = 0
    broken_at: int | None = None
    broken_by: int = 0


def _bad(index: int, what: str, status: int = TAMPERED) -> Fault:
    return Fault(status, f"leaf {index} {what}", index)


class Walk:
    """One pass over a log's leaves; `log` is a Database or a Tiles."""

    def __init__(self, log: Any, keys: Sequence[Key], report: Report, see: Any) -> None:
        self.log, self.keys, self.report, self.see = log, keys, report, see
        self.tree = Tree()
        self.chains: dict[str, Chain] = {}
        self.ends: dict[str, tuple[str, int]] = {}
        self.sequencers: set[str] = set()
        self.tiles = 0
        self.holds: dict[str, int] = {}
        self.prunings: list[tuple[int, int]] = []
        self.handed_over: dict[int, dict[str, Any]] = {}

    def run(self, kept: Note | None, last: Note | None) -> None:
        report = self.report
        try:
            self.derive(kept, last)
            said = [below for at, below in self.prunings if at < report.signed_size]
            if report.pruned_below > max(said, default=0):
                raise _bad(0, "is missing, and no signed trail.prune says so; it was cut out")
            self.check_keys()
            self.log.check_end(self)
            self.check_chains()
        finally:
            report.checked, report.root = self.tree.size, self.tree.root().hex()
            tasks = self.chains.keys() - self.sequencers
            states = [self.ends.get(emitter, ("live", 0))[0] for emitter in tasks]
            report.ends = {state: states.count(state) for state in sorted(set(states))}
        if report.size and not report.signed_size:
            raise Fault(INCOMPLETE, "no checkpoint was signed yet", 0)

    def signed(self, *elsewhere: tuple[Note | None, str]) -> Iterator[tuple[int, Note, str]]:
        def stored() -> Iterator[tuple[int, Note, str]]:
            for size, text in self.log.checkpoints():
                note = open_note(text, self.keys, self.report.origin)
                if note.size != size:
                    raise Fault(TAMPERED, f"the checkpoint over {size} says {note.size}")
                yield size, note, ""

        others = [(note.size, note, whose) for note, whose in elsewhere if note is not None]
        by_size = sorted(others, key=lambda due: due[0])
        return heapq.merge(by_size, stored(), key=lambda due: due[0])

    def derive(self, kept: Note | None, last: Note | None) -> None:
        signed = self.signed((kept, "the kept checkpoint"), (last, "the signer's last checkpoint"))
        due = next(signed, None)
        chunk: list[bytes] = []
        for index, data, stored in self.entries():
            at = self.tree.size + len(chunk)
            if due is not None and due[0] == at:
                self.extend(chunk)
                while due is not None and due[0] == at:
                    self.compare(*due)
                    due = next(signed, None)
            if index != at:
                raise _bad(min(index, at), "is missing, or another stands in its place")
            if data is not None:
                if leaf_hash(data) != stored:
                    raise _bad(at, "does not give its stored hash; it was changed")
                self.read(at, data, stored)
            chunk.append(stored)
            if len(chunk) >= CHUNK:
                self.extend(chunk)
        self.extend(chunk)
        while due is not None and due[0] == self.tree.size:
            self.compare(*due)
            due = next(signed, None)
        if due is not None:
            status = TAMPERED if self.log.is_all else INCOMPLETE
            whose = due[2] or "a checkpoint"
            raise _bad(self.tree.size, f"is missing: {whose} covers {due[0]}", status)

    def entries(self) -> Iterator[tuple[int, bytes | None, bytes]]:
        """Leaves by index; of pruned ones, before the first that is there, the hashes alone."""
        is_first = self.log.is_all
        for index, data, stored in self.log.leaves():
            if is_first and index > 0 and index % WIDTH == 0:
                self.report.pruned_below = index
                for n in range(index // WIDTH):
                    tile = self.log.tile(0, n) or b""
                    if len(tile) != WIDTH * HASH:
                        raise _bad(n * WIDTH, "is missing, and no tile holds its hash")
                    for k in range(WIDTH):
                        yield n * WIDTH + k, None, tile[k * HASH :][:HASH]
            is_first = False
            yield index, data, stored

    def compare(self, size: int, note: Note, elsewhere: str) -> None:
        if self.tree.root() != note.root:
            low, whose = self.report.signed_size, elsewhere or f"the checkpoint over {size}"
            text = f"{whose} has another root; a leaf from {low} to {size - 1} was changed"
            raise Fault(TAMPERED, text, self.suspect(low, low))
        if not elsewhere:
            self.report.checkpoints += 1
            self.report.signed_size = size

    def suspect(self, low: int, otherwise: int) -> int:
        """The first leaf from `low` on that does not fit its emitter's chain."""
        broken = [c.broken_at for c in self.chains.values() if c.broken_at is not None]
        return min((at for at in broken if at >= low), default=otherwise)

    def extend(self, chunk: list[bytes]) -> None:
        filled = [tile for hashed in chunk for tile in self.tree.add(hashed)]
        chunk.clear()
        for level, n, hashes in sorted(filled):
            self.same_tile(level, n, hashes, self.log.tile(level, n))
        self.tiles += len(filled)

    @staticmethod
    def same_tile(level: int, n: int, hashes: bytes, stored: bytes | None) -> None:
        if stored == hashes:
            return
        at, kept = n * WIDTH ** (level + 1), stored or b""
        if not level:
            steps = range(0, len(hashes), HASH)
            differs = (s // HASH for s in steps if hashes[s:][:HASH] != kept[s:][:HASH])
            at += next(differs, 0)
        raise Fault(TAMPERED, f"tile {level}/{n} is not what its leaves give", at)

    def read(self, at: int, data: bytes, hashed: bytes) -> None:
        event = read_event(data)
        if event is None:
            raise _bad(at, "is not an event")
        chain = self.chains.get(event["emitter"])
        if chain is None:
            chain = self.chains[event["emitter"]] = self.begin(at, event)
        seq, prev = event["seq"], None if chain.last is None else chain.last.hex()
        if (seq, event.get("prev")) != (chain.next_seq, prev) and chain.broken_at is None:
            chain.broken_at = chain.newest if seq == chain.next_seq and seq else at
            chain.broken_by = at
        if seq >= chain.next_seq:
            chain.next_seq, chain.last, chain.newest = seq + 1, hashed, at
        more, act = event.get("more", {}), event["act"]
        if act == "trail.start" and at:
            raise _bad(at, "says that a log begins here")
        if at == 0 and (act != "trail.start" or more.get("origin") != self.report.origin):
            raise _bad(0, f"does not begin the log {self.report.origin!r}")
        if act in SEQUENCERS_OWN:
            self.sequencers.add(event["emitter"])
        if act == "trail.emitter" and more.get("state") != "found":
            self.ends[str(more.get("emitter"))] = (str(more.get("state")), at)
        if act == "trail.key":
            self.handed_over[at] = more
        self.note_pruning(at, event)
        self.see(at, event)

    def begin(self, at: int, event: dict[str, Any]) -> Chain:
        if not self.report.pruned_below or not event["seq"]:
            return Chain()
        # What came before is there by its hash alone: the chain begins in its middle.
        last = bytes.fromhex(event["prev"]) if "prev" in event else None
        return Chain(next_seq=event["seq"], last=last, newest=at)

    def note_pruning(self, at: int, event: dict[str, Any]) -> None:
        more, act = event.get("more", {}), event["act"]
        if act == "trail.hold":
            name, said = str(more.get("name")), more.get("from_index")
            if more.get("state") == "released":
                self.holds.pop(name, None)
            else:
                self.holds[name] = min(said, at) if type(said) is int else 0
        if act == "trail.prune" and event["phase"] == "intent":
            below = more.get("below")
            below = below if type(below) is int else 0
            if below > min([*self.holds.values(), at]):
                raise _bad(at, f"prunes below {below}, which a hold forbids")
            self.prunings.append((at, below))

    def check_keys(self) -> None:
        """Each key that follows another is named by the last leaf before its sizes."""
        new = [key for key in self.keys if key.name == self.report.origin and key.first]
        for key in sorted(new, key=lambda key: key.first):
            last = key.first - 1
            if self.tree.size < last:
                if not self.log.is_all:
                    return
                text = f"{self.tree.size} leaves, and a key signs from {key.first} on"
                raise Fault(TAMPERED, f"{text}; the log was cut or rolled back", self.tree.size)
            said = self.handed_over.get(last - 1, {})
            digest = f"sha256:{hashlib.sha256(key.raw).hexdigest()}"
            is_named = key.vkey() == said.get("vkey") or digest == said.get("second")
            sizes = (said.get("from_size"), said.get("to_size"))
            if last > self.report.pruned_below and not (is_named and sizes == (last + 1, last)):
                raise _bad(last - 1, f"does not hand over to the key {key.id.hex()}")

    def check_chains(self) -> None:
        gaps, holes = self.log.gaps(), []
        for emitter, chain in self.chains.items():
            if chain.broken_at is None:
                continue
            state, ended = self.ends.get(emitter, ("", -1))
            is_said = ended > chain.broken_by
            # Without the store's table nobody says whether a live emitter has a gap.
            is_gap = state == "gap" if is_said else gaps is None or emitter in gaps
            if not is_gap:
                raise _bad(chain.broken_at, "does not fit its emitter's chain")
            holes.append(chain.broken_at)
        if holes:
            raise Fault(INCOMPLETE, f"events are missing before leaf {min(holes)}", min(holes))


class Database:
    """A copy of trail.db."""

    is_all = True

    def __init__(self, connection: sqlite3.Connection, report: Report) -> None:
        self.connection = connection
        # Of a number in its place, `bytes` would make as many zeros.
        sql = "SELECT origin, size, CAST(edge AS BLOB), format FROM log"
        rows = connection.execute(sql).fetchall()
        if len(rows) != 1:
            raise Fault(TAMPERED, f"{len(rows)} rows in table log, expected 1")
        report.origin = str(rows[0][0])
        self.size, edge = int(rows[0][1]), bytes(rows[0][2])
        self.format = rows[0][3]
        self.nodes = [edge[at : at + HASH] for at in range(0, len(edge), HASH)]
        if self.size < 0 or len(self.nodes) != self.size.bit_count() or len(edge) % HASH:
            raise Fault(TAMPERED, "the edge in table log does not fit the size beside it")
        report.size = self.size

    def leaves(self) -> Iterator[tuple[int, bytes, bytes]]:
        return self.connection.execute(
            "SELECT idx, CAST(data AS BLOB), CAST(hash AS BLOB) FROM leaf ORDER BY 1"
        )

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        return self.connection.execute("SELECT size, note FROM checkpoint ORDER BY size")

    def tile(self, level: int, n: int) -> bytes | None:
        sql = "SELECT CAST(hashes AS BLOB) FROM tile WHERE level = ? AND n = ?"
        row = self.connection.execute(sql, (level, n)).fetchone()
        return None if row is None else bytes(row[0])

    def gaps(self) -> set[str]:
        rows = self.connection.execute("SELECT id FROM emitter WHERE state = 'gap'")
        return {str(row[0]) for row in rows}

    def check_end(self, walk: Walk) -> None:
        if (walk.tree.size, walk.tree.nodes) != (self.size, self.nodes):
            text = f"{walk.tree.size} leaves, table log says {self.size} or has another edge"
            low = min(walk.tree.size, self.size)
            raise Fault(TAMPERED, f"{text}; the log was cut or added to", walk.suspect(0, low))
        rows = self.connection.execute("SELECT DISTINCT level, n FROM tile").fetchall()
        if len(rows) != walk.tiles:
            raise Fault(TAMPERED, "tiles are stored that no leaves stand behind")
        found = [str(row[0]) for row in self.connection.execute("PRAGMA integrity_check(10)")]
        if found != ["ok"]:
            raise Fault(TAMPERED, f"SQLite's own check says: {'; '.join(found)}")
        if self.format not in SCHEMAS:
            raise Fault(TAMPERED, f"table log says format {self.format!r}, known are 1 and 2")
        if schema_digest(self.connection) != SCHEMAS[self.format]:
            text = f"tables, indices or triggers are not those of format {self.format}"
            raise Fault(TAMPERED, text)
        # What is sealed is checked by whoever has the key that opens it.
        sql = (
            "SELECT h, CAST(salt AS BLOB), value FROM aside WHERE value IS NOT NULL "
            "AND (subject IS NULL OR salt IS NOT NULL)"
        )
        wrong = [
            h for h, salt, value in self.connection.execute(sql) if not reveals(h, salt, value)
        ]
        if wrong:
            raise Fault(TAMPERED, f"{len(wrong)} values in table aside do not give their hashes")


def schema_digest(connection: sqlite3.Connection) -> str:
    """What tells the schema from every other one."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema")
    listed = [[t, n, s or ""] for t, n, s in rows if t != "table" or n not in STATISTICS]
    text = json.dumps(sorted(listed), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def reveals(h: str, salt: bytes | None, value: str) -> bool:
    """Whether a value and its salt are those behind a hidden value."""
    if salt is None or len(bytes(salt)) != 16:
        return False
    return hashlib.sha256(b"asml/v1/hidden\0" + bytes(salt) + value.encode()).hexdigest() == h


# ---- files: a folder or a zip


@contextmanager
def whole_zip(what: str) -> Iterator[None]:
    """What zipfile says of bytes that are no zip, or not the one that was written."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise Fault(TAMPERED, f"{what}: not as it was packed: {error}") from error
    except OSError as error:
        # A place in it that no file has.
        if error.errno != errno.EINVAL:
            raise
        raise Fault(TAMPERED, f"{what}: not as it was packed: {error}") from error


class Files:
    """Files by their paths, each at most as long as it may be."""

    def __init__(self, place: Path) -> None:
        self.folder = place if place.is_dir() else None
        with whole_zip(place.name):
            self.zip = None if self.folder else zipfile.ZipFile(place)
            names = [] if self.zip is None else self.zip.namelist()
        # Else one counts for another that was left out, and two tools read different files.
        if len(set(names)) != len(names):
            raise Fault(TAMPERED, f"{place.name}: it holds a name twice")

    def read(self, path: str, limit: int) -> bytes | None:
        try:
            if self.zip is None:
                with (self.folder or Path()).joinpath(path).open("rb") as stream:
                    data = stream.read(limit + 1)
            else:
                with whole_zip(path), self.zip.open(path) as stream:
                    data = stream.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, KeyError):
            return None
        if len(data) > limit:
            raise Fault(TAMPERED, f"{path}: longer than {limit} bytes")
        return data

    def text(self, path: str, limit: int) -> str | None:
        data = self.read(path, limit)
        return None if data is None else decoded(data, path)

    def below(self, folder: str) -> list[str]:
        if self.zip is not None:
            return sorted(name for name in self.zip.namelist() if name.startswith(folder + "/"))
        return sorted(
            f"{folder}/{path.name}" for path in (self.folder or Path()).glob(f"{folder}/*")
        )


def decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault(TAMPERED, f"{what}: not UTF-8") from None


def numbered(n: int, width: int) -> str:
    digits = str(n).zfill(-(-len(str(n)) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    whole = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    return whole if width == WIDTH else f"{whole}.p/{width}"


class Tiles:
    """A log as C2SP tlog-tiles."""

    # An export ends where its checkpoint does: the log may have gone on.
    is_all = False

    def __init__(self, files: Files, note: str, size: int) -> None:
        self.files, self.note, self.size = files, note, size

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        yield self.size, self.note

    def leaves(self) -> Iterator[tuple[int, bytes, bytes]]:
        for first in range(0, self.size, WIDTH):
            width = min(WIDTH, self.size - first)
            path = f"tile/entries/{numbered(first // WIDTH, width)}"
            bundle = self.files.read(path, WIDTH * (2 + 0xFFFF))
            if bundle is None:
                raise Fault(INCOMPLETE, f"{path} is missing", first)
            hashes = self.stored(0, first // WIDTH, width)
            at = 0
            for n in range(width):
                end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
                if at + 2 > len(bundle) or end > len(bundle):
                    raise _bad(first + n, f"is cut off in {path}")
                yield first + n, bundle[at + 2 : end], hashes[n * HASH :][:HASH]
                at = end
            if at != len(bundle):
                raise _bad(first + width - 1, f"is not the last in {path}")

    def stored(self, level: int, n: int, width: int) -> bytes:
        path = f"tile/{level}/{numbered(n, width)}"
        found = self.files.read(path, WIDTH * HASH)
        if found is None:
            raise Fault(INCOMPLETE, f"{path} is missing", n * WIDTH ** (level + 1))
        return found

    def tile(self, level: int, n: int) -> bytes:
        return self.stored(level, n, WIDTH)

    def gaps(self) -> set[str] | None:
        return None

    def check_end(self, walk: Walk) -> None:
        tree = walk.tree
        for level, hashes in enumerate(tree.open):
            if hashes:
                n = tree.full[level]
                walk.same_tile(level, n, b"".join(hashes), self.stored(level, n, len(hashes)))


# ---- what there is to verify


@dataclass
class Asked:
    """The command line, read."""

    what: Path
    keys: list[Key]
    kept: str | None
    last: str | None
    event: bytes | None
    witnesses: list[Key]
    quorum: int
    stamp_ca: Path | None
    see: Callable[[int, dict[str, Any]], None]


def open_elsewhere(asked: Asked, origin: str) -> tuple[Note | None, Note | None]:
    """The kept checkpoint and the signer's last one."""
    kept = last = None
    if asked.kept is not None:
        try:
            kept = open_note(asked.kept, asked.keys, origin)
        except Fault as error:
            raise Fault(CANNOT_TELL, f"the kept checkpoint: {error}") from error
    if asked.last is not None:
        try:
            last = open_note(asked.last, asked.keys, origin)
        except UnknownSigner:
            # Signed by a key that the reader does not know: it tells them nothing.
            last = None
    return kept, last


def verify_database(asked: Asked, report: Report) -> None:
    report.kind = "trail.db"
    address = f"{asked.what.resolve().as_uri()}?mode=ro"
    is_alone = not asked.what.with_name(asked.what.name + "-wal").exists()
    # A copy in a folder that nobody may write to has no room for SQLite's own files.
    address += "&immutable=1" if is_alone else ""
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=2)) as connection:
            connection.execute("BEGIN")
            verify_log(Database(connection, report), asked, report)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 1) & 0xFF in UNAVAILABLE:
            raise OSError(f"SQLite: {error}") from error
        raise Fault(TAMPERED, f"SQLite cannot read it: {error}") from error
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        raise Fault(TAMPERED, f"a table holds a value of another type: {error}") from error


def verify_log(log: Any, asked: Asked, report: Report) -> None:
    require_keys(asked)
    kept, last = open_elsewhere(asked, report.origin)
    report.kept_size = None if kept is None else kept.size
    Walk(log, asked.keys, report, asked.see).run(kept, last)


def require_keys(asked: Asked) -> None:
    if not asked.keys:
        raise Fault(CANNOT_TELL, "no key of the log is known")


def open_given(text: str, asked: Asked, report: Report) -> Note:
    """The checkpoint of an export: its origin is the one that the keys name."""
    require_keys(asked)
    note = parse_note(text)
    report.origin, report.size = note.origin, note.size
    if all(key.name != note.origin for key in asked.keys):
        raise Fault(CANNOT_TELL, f"no key of the log {note.origin!r} is known")
    open_note(text, asked.keys)
    report.cosigned_by = sorted({key.name for key in signers(note, asked.witnesses)})
    return note


def require_witnesses(asked: Asked, report: Report) -> None:
    if len(report.cosigned_by) < asked.quorum:
        text = f"{len(report.cosigned_by)} known witnesses cosigned, {asked.quorum} are asked for"
        raise Fault(CANNOT_TELL, text)


def verify_tiles(files: Files, asked: Asked, report: Report) -> None:
    text = files.text("checkpoint", MAX_NOTE)
    if text is None:
        raise Fault(INCOMPLETE, "checkpoint is missing")
    note = open_given(text, asked, report)
    verify_log(Tiles(files, text, note.size), asked, report)


def verify_files(asked: Asked, report: Report) -> None:
    files = Files(asked.what)
    about = files.text("pack.json", MAX_PROOF)
    report.kind = "tlog-tiles" if about is None else "evidence pack"
    pack = {} if about is None else parse_pack(about)
    values = Values(files, asked.see)
    asked.see = values.see
    if pack.get("whole", True):
        verify_tiles(files, asked, report)
    else:
        verify_selection(files, pack, asked, report)
    values.check(report)
    check_stamp(files, asked, report)
    require_witnesses(asked, report)


def check_stamp(files: Files, asked: Asked, report: Report) -> None:
    """A pack's time stamp, by openssl and the authority's certificates from elsewhere."""
    text = files.text("timestamp/note", MAX_NOTE)
    if text is None:
        if asked.stamp_ca is not None:
            raise Fault(CANNOT_TELL, "it holds no time stamp")
        return
    response = files.read("timestamp/response.tsr", MAX_PROOF)
    proof = files.text("timestamp/consistency", MAX_PROOF)
    if response is None or proof is None:
        raise Fault(INCOMPLETE, "timestamp/response.tsr or timestamp/consistency is missing")
    stamped = open_note(text, asked.keys, report.origin)
    now = open_note(files.text("checkpoint", MAX_NOTE) or "", asked.keys, report.origin)
    steps = [unbase64(line, "a hash") for line in proof.splitlines()]
    check_growth(stamped.size, stamped.root, now.size, now.root, steps)
    program = shutil.which("openssl")
    if asked.stamp_ca is None:
        report.stamp = "NOT CHECKED: give its authority's certificates with --timestamp-ca"
        return
    if program is None:
        raise Fault(CANNOT_TELL, "the time stamp is not checked: there is no program openssl here")
    time = verify_stamp(program, text.encode(), response, asked.stamp_ca)
    report.stamp = f"{time}, over {stamped.size} leaves"


def verify_stamp(program: str, data: bytes, response: bytes, ca: Path) -> str:
    """When a response says that it stamped some bytes; its certificates held at that time."""
    with tempfile.TemporaryDirectory() as folder:
        stamp, stamped = Path(folder, "response.tsr"), Path(folder, "note")
        stamp.write_bytes(response)
        stamped.write_bytes(data)
        _, told = openssl(program, "-reply", "-in", stamp, "-text")
        when = stamped_at(told)
        words = ["-verify", "-in", stamp, "-data", stamped, "-CAfile", ca.resolve()]
        status, told = openssl(program, *words, "-attime", int(when.timestamp()))
    if status or "Verification: OK" not in told:
        reason = next((line for line in told.splitlines() if "error" in line.lower()), "no reason")
        raise Fault(TAMPERED, f"the time stamp does not hold: openssl says: {reason[-200:]}")
    return when.isoformat()


def stamped_at(told: str) -> datetime:
    """The time in a stamp, as openssl tells it."""
    pattern = r"^Time stamp: (\w{3}) +(\d+) (\d\d):(\d\d):(\d\d)(?:\.\d+)? (\d{4}) GMT$"
    match = re.search(pattern, told, re.ASCII | re.MULTILINE)
    try:
        month, *numbers = match.groups() if match is not None else ("",)
        day, hour, minute, second, year = map(int, numbers)
        utc = timezone.utc  # noqa: UP017 - Python 3.10 has no datetime.UTC
        return datetime(year, MONTHS.index(month) + 1, day, hour, minute, second, tzinfo=utc)
    except ValueError:
        raise Fault(
            TAMPERED, "timestamp/response.tsr: no time-stamping authority's answer"
        ) from None


def openssl(program: str, *words: object) -> tuple[int, str]:
    command = [program, "ts", *map(str, words)]
    try:
        done = subprocess.run(  # noqa: S603 - openssl, and paths of our own
            command, capture_output=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired as error:
        raise OSError("openssl does not come to an end") from error
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def parse_pack(text: str) -> dict[str, Any]:
    try:
        pack = json.loads(text)
        if pack["format"] == "asml-evidence/1" and _count(pack["events"]):
            return dict(pack)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Fault(TAMPERED, "pack.json is not what a pack of format 1 has")


def verify_selection(files: Files, pack: dict[str, Any], asked: Asked, report: Report) -> None:
    text = files.text("checkpoint", MAX_NOTE)
    if text is None:
        raise Fault(INCOMPLETE, "checkpoint is missing")
    note = open_given(text, asked, report)
    names: dict[tuple[str, int], int] = {}
    for path in files.below("proofs"):
        proof = files.text(path, MAX_PROOF) or ""
        index = check_proof(proof, note, text, None, report, asked, names)
        if path != f"proofs/{index:012d}.tlog-proof":
            raise Fault(TAMPERED, f"{path} proves leaf {index}", index)
        report.checked += 1
    report.root, report.checkpoints, report.signed_size = note.root.hex(), 1, note.size
    if report.checked != pack["events"]:
        text = f"{report.checked} events are proved, the pack was made with {pack['events']}"
        raise Fault(INCOMPLETE, text)
    compare_kept(note, asked, report, files)


def verify_proof(asked: Asked, report: Report) -> None:
    report.kind = "proof"
    with asked.what.open("rb") as stream:
        text = decoded(stream.read(MAX_PROOF + 1), "proof")
    given = text.partition("\n\n")[2]
    note = open_given(given, asked, report)
    check_proof(text, note, given, asked.event, report, asked, {})
    report.checked, report.root = 1, note.root.hex()
    report.checkpoints, report.signed_size = 1, note.size
    compare_kept(note, asked, report)
    require_witnesses(asked, report)


def compare_kept(note: Note, asked: Asked, report: Report, files: Files | None = None) -> None:
    """Whether this checkpoint's log begins as the kept one's; a pack may hold the proof of it."""
    kept, _ = open_elsewhere(asked, note.origin)
    if kept is None:
        return
    report.kept_size = kept.size
    proof: str | None = "" if kept.size == note.size else None
    if files is not None and proof is None:
        proof = files.text(f"consistency/{kept.size:012d}", MAX_PROOF)
    if proof is None or kept.size > note.size:
        text = f"the kept checkpoint covers {kept.size} leaves, this one {note.size}"
        raise Fault(CANNOT_TELL, f"{text}; only the whole log shows whether they are one history")
    steps = [unbase64(line, "a hash") for line in proof.splitlines()]
    check_growth(kept.size, kept.root, note.size, note.root, steps)


def check_proof(
    text: str,
    note: Note,
    expected: str,
    event: bytes | None,
    report: Report,
    asked: Asked,
    names: dict[tuple[str, int], int],
) -> int:
    """Check one .tlog-proof under a checkpoint that is verified; returns the leaf's index."""
    head, _, given = text.partition("\n\n")
    lines = head.split("\n")
    if len(text) > MAX_PROOF or lines[0] != "c2sp.org/tlog-proof@v1" or given != expected:
        raise Fault(TAMPERED, "not a proof under this checkpoint")
    if len(lines) > 1 and lines[1].startswith("extra "):
        extra = unbase64(lines.pop(1)[6:], "extra")
        event = extra if event is None else event
    match = re.fullmatch("index (0|[1-9][0-9]{0,15})", "".join(lines[1:2]), re.ASCII)
    if match is None or int(match[1]) >= note.size:
        raise Fault(TAMPERED, "a proof names no leaf under its checkpoint")
    index = int(match[1])
    if event is None:
        raise Fault(CANNOT_TELL, "the proof holds no event; give it with --event")
    path = [unbase64(line, "a hash") for line in lines[2:]]
    if any(len(step) != HASH for step in path):
        raise Fault(TAMPERED, "a hash of the path is not 32 bytes", index)
    if root_from_path(index, note.size, leaf_hash(event), path) != note.root:
        raise _bad(index, "does not lead to the signed root; it was changed")
    record = read_event(event)
    if record is None:
        raise _bad(index, "is not an event")
    other = names.setdefault((record["emitter"], record["seq"]), index)
    if other != index:
        raise _bad(index, f"has the name of leaf {other}")
    asked.see(index, record)
    return index


class Values:
    """Values that were given out with the events: each gives a hash that stands in one of them."""

    def __init__(self, files: Files, see: Callable[[int, dict[str, Any]], None]) -> None:
        text, self.other = files.text("values.json", MAX_VALUES), see
        try:
            rows = [] if text is None else json.loads(text)
            wrong = [h for h, salt, value in rows if not reveals(h, bytes.fromhex(salt), value)]
            self.left = {h for h, _, _ in rows}
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise Fault(TAMPERED, "values.json: expected [[hash, salt, value], …]") from None
        if wrong:
            raise Fault(TAMPERED, f"values.json: {len(wrong)} values do not give their hashes")
        self.count = len(rows)

    def see(self, index: int, event: dict[str, Any]) -> None:
        if self.left:
            self.take(event)
        self.other(index, event)

    def take(self, value: Any) -> None:
        if _hidden(value):
            self.left.discard(value["h"])
        elif isinstance(value, (dict, list)):
            for inner in value.values() if isinstance(value, dict) else value:
                self.take(inner)

    def check(self, report: Report) -> None:
        if self.left:
            raise Fault(TAMPERED, f"values.json: {len(self.left)} values belong to no event here")
        report.values = self.count


# ---- the command line


def choose(what: Path) -> Callable[[Asked, Report], None]:
    if what.is_dir():
        return verify_files
    with what.open("rb") as stream:
        head = stream.read(32)
    if head.startswith(b"SQLite format 3\0") or what.suffix == ".db":
        return verify_database
    if head.startswith(b"c2sp.org/tlog-proof@") or what.suffix == ".tlog-proof":
        return verify_proof
    if head.startswith(b"PK") or what.suffix == ".zip":
        return verify_files
    raise WrongUseError(f"{what}: expected a pack, a folder of tiles, a .tlog-proof or a trail.db")


def verify(asked: Asked) -> Report:
    """Verify whatever it is; nothing found in it is raised."""
    report = Report()
    try:
        choose(asked.what)(asked, report)
    except Fault as error:
        report.status, report.problem, report.first_bad = error.status, str(error), error.index
    return report


def plain(text: str) -> str:
    # A name in an event could hold an escape sequence that rewrites the terminal.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lines_of(report: Report) -> Iterator[str]:
    yield f"{report.origin or report.kind}: {WORDS[report.status]} ({report.kind})"
    if report.problem:
        where = "" if report.first_bad is None else f" (first bad leaf: {report.first_bad})"
        yield f"{report.problem}{where}"
    yield f"{report.checked} leaves checked, the newest checkpoint covers {report.signed_size}"
    yield f"root {report.root}"
    if report.pruned_below:
        yield f"leaves below {report.pruned_below} are there by their hashes alone: pruned"
    if report.ends:
        yield f"emitters: {', '.join(f'{n} {state}' for state, n in report.ends.items())}"
    if report.cosigned_by:
        yield f"cosigned by {', '.join(report.cosigned_by)}"
    if report.stamp:
        yield f"time stamp: {report.stamp}"
    if report.values:
        yield f"{report.values} values give the hashes that events hold instead of them"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("what", type=Path, help="pack, folder of tiles, .tlog-proof or trail.db")
    made.add_argument("--keys", type=Path, required=True, help="log keys, from elsewhere")
    made.add_argument("--checkpoint", type=Path, help="a checkpoint kept elsewhere")
    made.add_argument("--last", type=Path, help="with trail.db: the signer's record `last`")
    made.add_argument("--event", type=Path, help="the event's bytes, for a proof without them")
    made.add_argument("--witness-keys", type=Path, help="keys of witnesses, from elsewhere")
    made.add_argument("--witnesses", type=int, default=0, help="so many must have cosigned")
    made.add_argument("--timestamp-ca", type=Path, help="certificates of the time's authority, PEM")
    made.add_argument("--list", metavar="ACT[:RESULT]", help="print the leaves of an activity")
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    return made


def lister(wanted: str | None) -> Callable[[int, dict[str, Any]], None]:
    act, _, result = (wanted or "").partition(":")

    def see(index: int, event: dict[str, Any]) -> None:
        if act and event["act"] == act and result in ("", event.get("result", "intent")):
            sys.stdout.write(f"{index} {event['emitter']}:{event['seq']}\n")

    return see


def read_text(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as stream:
        return stream.read(1 << 20).decode("utf-8", "replace")


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        asked = Asked(
            what=given.what,
            keys=parse_keys(read_text(given.keys) or "", ED25519, ML_DSA),
            kept=read_text(given.checkpoint),
            last=read_text(given.last),
            event=None if given.event is None else given.event.read_bytes(),
            witnesses=parse_witnesses(read_text(given.witness_keys) or ""),
            quorum=given.witnesses,
            stamp_ca=given.timestamp_ca,
            see=lister(given.list),
        )
        report = verify(asked)
    except WrongUseError as error:
        sys.stderr.write(plain(f"verify.py: {error}") + "\n")
        return WRONG_USE
    except FileNotFoundError as error:
        sys.stderr.write(plain(f"verify.py: {error.filename}: no such file") + "\n")
        return WRONG_USE
    except OSError as error:
        sys.stderr.write(plain(f"verify.py: {error}") + "\n")
        return OTHER_SYSTEM
    if given.json:
        found = {**asdict(report), "verdict": WORDS[report.status]}
        sys.stdout.write(json.dumps(found, sort_keys=True) + "\n")
    else:
        sys.stdout.writelines(plain(line) + "\n" for line in lines_of(report))
    return report.status


if __name__ == "__main__":
    sys.exit(main())

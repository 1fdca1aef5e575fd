"""What a witness does with a checkpoint: believe its log's key, its own memory, and a proof.

It never cosigns two trees of one log that do not extend each other. What it knows is durable before
its signature exists, so a kill between the two costs an answer and never a promise.

Source: C2SP tlog-witness (add-checkpoint), tlog-cosignature.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from airflow_secure_ml.core.audit.add_checkpoint import (
    SIZE_TYPE,
    AddCheckpoint,
    Reply,
    parse_add_checkpoint,
)
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint
from airflow_secure_ml.core.audit.cosignature import CosignerKey, cosign, encode_lines
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT, check_consistency
from airflow_secure_ml.errors import AuditLogError, FormatError, PolicyError, SignatureError


class WitnessMemory(Protocol):
    """What a witness cosigned last, by log; safe from many threads."""

    def last(self, origin: str) -> tuple[int, bytes]:
        """Size and root; 0 and the empty tree's root if it never cosigned this log."""

    def advance(self, old: Checkpoint, new: Checkpoint) -> bool:
        """Put `new` in the place of `old`, durably; False: something else is there."""


class Cosigner:
    """One witness.

    Args:
        key: Its public key.
        sign: Signs with the private half.
        logs: Keys of the logs that it knows, by origin.
        memory: What it cosigned.
        now_s: Wall clock, seconds since 1970 UTC.
    """

    def __init__(
        self,
        *,
        key: CosignerKey,
        sign: Callable[[bytes], bytes],
        logs: Mapping[str, Sequence[LogKey]],
        memory: WitnessMemory,
        now_s: Callable[[], int],
    ) -> None:
        self._key, self._sign, self._logs = key, sign, logs
        self._memory, self._now_s = memory, now_s
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._making = threading.Lock()

    def add_checkpoint(self, body: bytes) -> Reply:
        """Answer one request."""
        try:
            asked = parse_add_checkpoint(body)
        except FormatError as error:
            return Reply(status=400, body=f"{error}\n")
        keys = self._logs.get(asked.origin)
        if keys is None:
            return Reply(status=404, body="unknown log\n")
        try:
            new = open_checkpoint(asked.note, keys, origin=asked.origin)
        except (SignatureError, PolicyError):
            return Reply(status=403, body="no signature of a key known for this log and size\n")
        except FormatError as error:
            return Reply(status=400, body=f"{error}\n")
        if not new.size and new.root != EMPTY_ROOT:
            return Reply(status=400, body="an empty log has another root\n")
        if asked.old > new.size:
            return Reply(status=400, body="the checkpoint is smaller than its old size\n")
        # Only now: what anyone may name would else fill the memory with locks.
        with self._making:
            lock = self._locks[asked.origin]
        with lock:
            return self._decide(asked, new)

    def _decide(self, asked: AddCheckpoint, new: Checkpoint) -> Reply:
        size, root = self._memory.last(asked.origin)
        if size != asked.old:
            return Reply(status=409, body=f"{size}\n", content_type=SIZE_TYPE)
        if size == new.size and root != new.root and size:
            return Reply(status=409, body=f"{size}\n", content_type=SIZE_TYPE)
        try:
            check_consistency(size, root, new.size, new.root, asked.proof)
        except AuditLogError:
            return Reply(status=422, body="the proof does not lead from the known tree to this\n")
        old = Checkpoint(origin=asked.origin, size=size, root=root)
        if not self._memory.advance(old, new):
            known = self._memory.last(asked.origin)[0]
            return Reply(status=409, body=f"{known}\n", content_type=SIZE_TYPE)
        line = cosign(new.body(), self._key, self._sign, time_s=self._now_s())
        return Reply(status=200, body=encode_lines([line]))


def logs_by_origin(keys: Sequence[LogKey]) -> dict[str, tuple[LogKey, ...]]:
    """Keys of logs, grouped by the log that each signs for."""
    origins = {key.name for key in keys}
    return {origin: tuple(key for key in keys if key.name == origin) for origin in origins}

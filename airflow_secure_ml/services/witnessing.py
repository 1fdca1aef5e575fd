"""Have a witness cosign the log's newest checkpoint, and notice when it knows another log.

A witness remembers what it cosigned. One that knows a larger log than ours, or does not find its
own in ours, is the alarm that a log was rolled back or rewritten together with its signer.

Source: C2SP tlog-witness (add-checkpoint).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_secure_ml.core.audit.add_checkpoint import PATH, AddCheckpoint, parse_size
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint, parse_note
from airflow_secure_ml.core.audit.cosignature import CosignerKey, encode_lines, parse_lines
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.relaying import Answer, Cosigned, Poster, RelayBook
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import consistency_proof
from airflow_secure_ml.errors import (
    AuditLogError,
    FormatError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SignatureError,
)
from airflow_secure_ml.services.relaying import Rest

# What a checkpoint waits for the next one at most: a busy log signs one each second.
PACE_S = 5.0
_TRIES = 3
_MAX_SAID = 200


class WitnessJob:
    """Keeps one witness's cosignatures up with the log. A `services.relaying.Job`.

    Args:
        key: The witness's public key.
        door: Leads to it.
        reader: The log.
        log_keys: Gives the keys that checkpoints are believed by.
        book: Where cosignatures are kept.
    """

    about = "witness"

    def __init__(
        self,
        *,
        key: CosignerKey,
        door: Poster,
        reader: AuditReader,
        log_keys: Callable[[], Sequence[LogKey]],
        book: RelayBook,
    ) -> None:
        self.name = f"witness {key.name}"
        self._key, self._door, self._reader = key, door, reader
        self._log_keys, self._book = log_keys, book

    def step(self) -> Rest:
        """Have the newest checkpoint cosigned, unless it is.

        Raises:
            AuditLogError: The witness knows a larger log, or another one.
            ServiceRefusedError: It does not take this log's checkpoints.
            ServiceUnavailableError: It did not answer.
            SignatureError: The store's newest checkpoint, or the witness's line, does not hold.
        """
        note = self._reader.checkpoint()
        last = self._book.last_cosigned(self._key.vkey())
        if note is None:
            return Rest(seconds=PACE_S, is_done=True)
        ours = open_checkpoint(note, self._log_keys(), origin=self._reader.origin())
        if not ours.size or (last is not None and last.size == ours.size):
            return Rest(seconds=PACE_S, is_done=True)
        if last is not None and last.size > ours.size:
            raise self._alarm(ours.size, f"it cosigned {last.size} leaves, this log has fewer now")
        self._ask(note, ours, 0 if last is None else last.size)
        return Rest(seconds=PACE_S, is_done=True)

    def _ask(self, note: str, ours: Checkpoint, old: int) -> None:
        for _ in range(_TRIES):
            answer = self._door.post(PATH, self._request(note, ours.size, old), "text/plain")
            if answer.status != 409:
                self._take(answer, note, ours.size)
                return
            known = self._known(answer)
            if known == old:
                raise self._alarm(ours.size, f"it knows another log of {known} leaves")
            if known > ours.size:
                note, ours = self._newer(known, ours)
            old = known
        raise ServiceUnavailableError(
            service=self.name, action="cosign", reason="its size changed with each question"
        )

    def _newer(self, known: int, ours: Checkpoint) -> tuple[str, Checkpoint]:
        """What was signed since; another relay may have sent that already."""
        note = self._reader.checkpoint()
        if note is not None:
            newer = open_checkpoint(note, self._log_keys(), origin=ours.origin)
            if newer.size >= known:
                return note, newer
        raise self._alarm(ours.size, f"it knows {known} leaves of this log, here are fewer")

    def _request(self, note: str, size: int, old: int) -> bytes:
        node = node_reader(self._reader.leaf_hashes, self._reader.tile)
        proof = consistency_proof(old, size, node)
        return AddCheckpoint(old=old, proof=proof, note=note).encode()

    def _take(self, answer: Answer, note: str, size: int) -> None:
        if answer.status == 422:
            raise self._alarm(size, "what it cosigned before is not the beginning of this log")
        if answer.status != 200:
            raise self._refusal(answer)
        text = parse_note(note).text
        try:
            lines = parse_lines(answer.body.decode("utf-8"), text)
        except (UnicodeDecodeError, FormatError) as error:
            raise SignatureError(f"{self.name}: its answer is no signature line") from error
        for line in lines:
            if self._key.owns(line):
                time_s = self._key.verify(line, text)
                found = Cosigned(
                    size=size, witness=self._key.vkey(), line=encode_lines([line]), time_s=time_s
                )
                self._book.keep_cosigned(found)
                return
        raise SignatureError(
            f"{self.name}: it answered without a cosignature of its key {self._key.key_id.hex()}; "
            "look into audit_witnesses"
        )

    def _known(self, answer: Answer) -> int:
        try:
            return parse_size(answer.body)
        except FormatError as error:
            raise ServiceRefusedError(
                service=self.name, action="cosign", reason=str(error), why="not_checkable"
            ) from error

    def _refusal(self, answer: Answer) -> ServiceRefusedError | ServiceUnavailableError:
        said = {
            400: "it does not understand the request, or the checkpoint is older than its own",
            403: "it accepts no signature of this log's keys; give it the newest line of log_keys",
            404: "it does not know this log; give it the log's line of log_keys",
        }.get(answer.status, _said(answer))
        if answer.status >= 500 or answer.status in (408, 429):
            return ServiceUnavailableError(
                service=self.name, action="cosign", reason=f"{answer.status}: {said}"
            )
        return ServiceRefusedError(
            service=self.name,
            action="cosign",
            reason=f"{answer.status}: {said}",
            why="misconfigured",
        )

    def _alarm(self, size: int, what: str) -> AuditLogError:
        return AuditLogError(
            f"{self.name}: {what} ({size}); the log was rolled back or rewritten together with "
            "its signer, or another one runs under its name. Keep both, look into the store"
        )


def _said(answer: Answer) -> str:
    text = answer.body[:_MAX_SAID].decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() else " " for sign in text).strip() or "no reason"

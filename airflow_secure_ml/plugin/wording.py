"""Say in words what an event's fields and values say; its sentence is `sentences`' business.

Pure. Every string that comes out may hold what a task wrote: `visible` shows what would hide or
reorder text, the templates escape the rest.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

MAX_SHOWN_CHARS = 300
# An event's numbers end at 2^53; an edited log may hold any.
_BEYOND = 2**63

REASONS = {
    "not_sealed": "it is not sealed",
    "not_signed": "it is not signed",
    "signature_invalid": "signature is invalid",
    "signer_not_accepted": "signer is not accepted",
    "key_missing": "key is missing",
    "key_disabled": "key is disabled",
    "key_destroyed": "key is destroyed",
    "key_not_allowed": "key may not be used here",
    "rule_denied": "a rule denies it",
    "not_checkable": "it cannot be checked",
    "output_missing": "output is missing",
    "output_unexpected": "output is unexpected",
    "output_outside": "output lies outside its folder",
    "address_taken": "address is taken",
    "try_replaced": "another try replaced this one",
    "lease_refused": "lease was refused",
    "store_refused": "object store refused it",
    "service_unavailable": "a service does not answer",
    "guardian_unavailable": "guardian did not start",
    "audit_unavailable": "it could not be recorded",
    "task_raised": "task raised an error",
    "access_denied": "Airflow denied access",
    "request_invalid": "Airflow turned the request down as it was",
    "broken_off": "the receiver went away",
}
ENDED = {
    "cut": "without saying so",
    "gap": "with events missing",
    "torn": "in the middle of an event",
}


def visible(value: object, *, limit: int = MAX_SHOWN_CHARS) -> str:
    """Text as it may be shown: control, format and bidirectional characters become escapes."""
    text = value if isinstance(value, str) else str(value)
    cut = text[:limit]
    shown = "".join(escaped(char) for char in cut)
    return shown + "…" if len(text) > limit else shown


def is_unseen(char: str) -> bool:
    """Whether a character would hide or reorder text."""
    return char != " " and unicodedata.category(char)[0] in "CZ"


def escaped(char: str) -> str:
    """A character as it may be shown, an unseen one as its escape."""
    if not is_unseen(char):
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\u{{{code:x}}}"


def fields(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that should be an object; an empty one if a tampered event holds something else."""
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}


def time_of(event: Mapping[str, Any]) -> int:
    """An event's time to go on from; 0 if a tampered event holds none that SQLite takes."""
    value = event.get("time")
    return value if isinstance(value, int) and abs(value) < _BEYOND else 0


def is_hidden(value: object) -> bool:
    """Whether this is a hidden value, which says only its hash and its length."""
    return isinstance(value, Mapping) and set(value) == {"h", "n"}


def plain(value: object) -> str:
    """A fact's value as text; a hidden value says so."""
    if isinstance(value, Mapping) and is_hidden(value):
        return f"hidden ({visible(value['n'])} bytes)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < _BEYOND:
        return f"{value:,}"
    return visible(value)


def size(value: object) -> str:
    """A number of bytes for a reader: 12.6 MB."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= _BEYOND:
        return plain(value)
    amount = float(value)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return (
                f"{amount:.0f} {unit}"
                if unit == "bytes" or amount >= 100
                else f"{amount:.1f} {unit}"
            )
        amount /= 1000
    return f"{amount:.1f} TB"


def number_of(count: int, *, is_exact: bool) -> str:
    """How many there are; `1,000+` where they were not all counted."""
    return f"{count:,}" if is_exact else f"{count:,}+"


def up_to(count: int, most: int) -> str:
    """How many there are, of a count that ends behind `most`."""
    return f"{count:,}" if count <= most else f"more than {most:,}"


def duration(seconds: object) -> str:
    """A number of seconds for a reader: 15 min."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return plain(seconds)
    if not abs(seconds) < _BEYOND:
        return plain(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def reason(code: object) -> str:
    """A why-code in words."""
    text = visible(code)
    return REASONS.get(text, text.replace("_", " "))


def shortened(text: str, *, keep: int = 8) -> str:
    """A digest or id, shortened in the middle."""
    return text if len(text) <= 2 * keep + 1 else f"{text[:keep]}…{text[-keep:]}"


def tail(address: str, *, keep: int = 2) -> str:
    """The end of an address, which tells more than its beginning; other text as it is."""
    parts = address.rstrip("/").split("/")
    return "…/" + "/".join(parts[-keep:]) if len(parts) > keep + 1 else address


def last_part(address: str) -> str:
    """The last part of an address, for a heading or a cell."""
    return visible(address.rstrip("/").rpartition("/")[2] or address)


def where(event: Mapping[str, Any]) -> str:
    """An event's DAG and task as `dag.task`; empty: it is of neither."""
    run = fields(event, "run")
    return ".".join(plain(run[name]) for name in ("dag", "task") if name in run)


def key_label(key: Mapping[str, Any]) -> str:
    """A key as `data/3`; empty if the event names none."""
    if "name" not in key:
        return ""
    return plain(key["name"]) + (f"/{plain(key['version'])}" if "version" in key else "")

"""Events as a table: one row each, in cells that no spreadsheet takes for a formula.

Every cell can be turned back into what the event holds, and the last column holds the event exactly
as it is stored. Which events is the caller's business.

Source: OWASP, CSV Injection; RFC 4180.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_secure_ml.core.audit.event import is_hidden
from airflow_secure_ml.core.audit.event_fields import END_MS
from airflow_secure_ml.core.audit.query import Leaf

# A byte order mark, without which spreadsheets take the file for something else than UTF-8.
BEGIN = "\ufeff"
_FORMULA = "=+\\-@＝＋－＠"
# Where a cell may begin: at its start, and after what a program with other settings, such as a
# semicolon between cells, takes for the end of one.
_BEGINNING = re.compile(rf"""(^|[,;|"])(?= *['{_FORMULA}])""")
_SIGN = re.compile(f"['{_FORMULA}]")
_MARKED = re.compile(r"""(^|[,;|"])'""")
_ESCAPED = re.compile(r"\\(\\|u[0-9a-f]{4}|U[0-9a-f]{8})")


def guarded(text: str) -> str:
    """A text as a cell holds it: on one line, nothing hidden in it, never a formula.

    A backslash is doubled; control, format and separator characters but the space are written as
    `\\u202e` or `\\U000e0001`. Wherever a program may see the beginning of a cell, and `=`, `+`,
    `-`, `@`, a full-width form of them or `'` comes next, a `'` is put before it.
    """
    # Most texts are plain, and there are 25 in a row of a million.
    shown = text.replace("\\", "\\\\")
    if not shown.isprintable():
        shown = "".join(map(_shown, text))
    return _BEGINNING.sub(r"\1'", shown) if _SIGN.search(shown) else shown


def restored(cell: str) -> str:
    """The text that `guarded` made a cell of."""
    return _ESCAPED.sub(_sign, _MARKED.sub(r"\1", cell))


def _shown(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char == " " or unicodedata.category(char)[0] not in "CZ":
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _sign(found: re.Match[str]) -> str:
    return "\\" if found[1] == "\\" else chr(int(found[1][1:], 16))


def header() -> str:
    """The file's first line."""
    return BEGIN + _line(COLUMNS)


def row(leaf: Leaf) -> str:
    """One event's line.

    A hidden value is shown as `hidden:` and its hash, so that what one person did stays together.
    """
    stored = leaf.data.decode("utf-8", "backslashreplace")
    return _line([*(_text(value(leaf.event)) for value in _VALUES.values()), stored])


def _line(cells: list[str] | tuple[str, ...]) -> str:
    # RFC 4180, 2: every cell in quotes, so that no text in it ends it; lines end with CRLF.
    return ",".join(f'"{guarded(cell).replace(chr(34), chr(34) * 2)}"' for cell in cells) + "\r\n"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"hidden:{value['h']}" if is_hidden(value) else str(value)


def _name(event: Mapping[str, Any]) -> str:
    return f"{event.get('emitter')}:{event.get('seq')}"


def _time(event: Mapping[str, Any]) -> Any:
    ms = event.get("time")
    if not isinstance(ms, int) or not 0 <= ms < END_MS:
        return ms
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _part(part: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    def value(event: Mapping[str, Any]) -> Any:
        found = event.get(part)
        return found.get(name) if isinstance(found, Mapping) else None

    return value


def _map_index(event: Mapping[str, Any]) -> Any:
    # What most tries are, unmapped, would look like a formula in every row.
    found = _part("run", "map")(event)
    return None if found == -1 else found


def _field(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda event: event.get(name)


_VALUES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "event": _name,
    "time": _time,
    "activity": _field("act"),
    "phase": _field("phase"),
    "result": _field("result"),
    "why": _field("why"),
    "dag": _part("run", "dag"),
    "run": _part("run", "run"),
    "task": _part("run", "task"),
    "map_index": _map_index,
    "try": _part("run", "try"),
    "object": _part("object", "name"),
    "address": _part("object", "uri"),
    "version": _part("object", "version"),
    "digest": _part("object", "digest"),
    "bytes": _part("object", "bytes"),
    "rows": _part("object", "rows"),
    "key": _part("key", "name"),
    "key_version": _part("key", "version"),
    "lease": _part("lease", "path"),
    "rule": _part("rule", "id"),
    "decision": _part("rule", "decision"),
    "person": _field("by"),
    "of": _field("of"),
}
COLUMNS = (*_VALUES, "stored")

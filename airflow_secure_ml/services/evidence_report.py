"""The parts of an evidence pack that people read: report.html and README.txt.

No script, nothing loaded from elsewhere, and every text of an event is escaped: whoever wrote the
event may want to be markup. Nothing in the report is proof; each figure names its leaves.

Source: AUDIT_TRAIL, Review.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_secure_ml.core.audit.checkpoint import Checkpoint

# A figure's leaves as ranges; the verifier lists the rest.
MAX_RANGES = 1000
# Of a whole log only what was refused or failed is shown event by event.
MAX_LISTED = 1000
_BAD = frozenset({"refused", "failed"})
_COLUMNS = ("leaf", "time (UTC)", "activity", "result", "run", "about", "event")
_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.25rem "
    ".5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "pre,.c{font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
)


@dataclass(slots=True)
class _Figure:
    """How often something happened, and in which leaves: [first, last] ranges."""

    count: int = 0
    ranges: list[list[int]] = field(default_factory=list)
    is_cut: bool = False

    def add(self, index: int) -> None:
        self.count += 1
        if self.ranges and not self.is_cut and self.ranges[-1][1] == index - 1:
            self.ranges[-1][1] = index
        elif len(self.ranges) < MAX_RANGES:
            self.ranges.append([index, index])
        else:
            self.is_cut = True


@dataclass(slots=True, kw_only=True)
class EvidenceReport:
    """Counts events as they pass and shows them at the end.

    Attributes:
        checkpoint: What the events are under.
        note: The same as it was signed.
        words: What was selected.
    """

    checkpoint: Checkpoint
    note: str
    words: str
    _figures: dict[tuple[str, str], _Figure] = field(default_factory=dict)
    _rows: list[str] = field(default_factory=list)
    _left_out: int = 0

    def add(self, index: int, event: Mapping[str, Any], *, is_listed: bool) -> None:
        """Take an event, in the order of the log.

        Args:
            index: Its leaf.
            event: The event.
            is_listed: Whether it is shown whatever came of it; else only what went wrong is.
        """
        result = str(event.get("result", "intent"))
        self._figures.setdefault((str(event.get("act")), result), _Figure()).add(index)
        if is_listed or (result in _BAD and len(self._rows) < MAX_LISTED):
            self._rows.append(_row(index, event, result))
        elif result in _BAD:
            self._left_out += 1

    def render(self) -> str:
        """The page."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        yield "<!doctype html>"
        yield '<html lang="en"><head><meta charset="utf-8"><title>Audit evidence</title>'
        yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        yield f"<style>{_STYLE}</style></head><body><h1>Audit evidence</h1>"
        yield f"<p>Log <span class=c>{_shown(self.checkpoint.origin)}</span>, "
        yield f"{self.checkpoint.size} leaves under the checkpoint below. Selected: "
        yield f"<span class=c>{_shown(self.words)}</span>.</p>"
        yield "<p>This page is for reading and proves nothing. README.txt says how the events are "
        yield "checked; every figure names the leaves that it counts.</p>"
        note = _shown(self.note, keep="\n")
        yield f"<h2>Checkpoint</h2><pre>{note}</pre><h2>Figures</h2>"
        yield "<table><tr><th>activity<th>result<th>events<th>leaves"
        for (act, result), figure in sorted(self._figures.items()):
            cells = (_shown(act), _shown(result), str(figure.count))
            yield f"<tr>{''.join(f'<td>{cell}' for cell in cells)}<td>{_leaves(figure)}"
        yield "</table><h2>Events</h2>"
        if self._left_out:
            yield f"<p>{self._left_out} more were refused or failed; <span class=c>verify.py "
            yield "--list</span> names them.</p>"
        yield f"<table><tr>{''.join(f'<th>{name}' for name in _COLUMNS)}"
        yield from self._rows
        yield "</table></body></html>"


def readme(checkpoint: Checkpoint, events: int, *, is_whole: bool) -> str:
    """README.txt: three commands, and what they do and do not show."""
    what = (
        f"all {events} events of the log up to its checkpoint, as C2SP tlog-tiles"
        if is_whole
        else f"{events} selected events, each with a C2SP tlog-proof"
    )
    limit = (
        "Whole means: these are the events that the log's key signed, none changed, removed or\n"
        "added. Only a checkpoint kept elsewhere shows that the log was not told anew before that."
        if is_whole
        else "Whole means: each of these events is in the log that the log's key signed, as it\n"
        "stands here. It does not mean that the selection is complete: only the whole log does."
    )
    return f"""\
Evidence from the audit log {checkpoint.origin}:
{what}.

You need Python 3.10 or newer and its package `cryptography`. Get the log's keys, and verify.py
itself, from somebody else than whoever gave you this pack: the ones inside are for comparison.

1. Check it:
   python verify.py PACK.zip --keys LOG_KEYS
2. Check it against a checkpoint that you kept from an earlier visit:
   python verify.py PACK.zip --keys LOG_KEYS --checkpoint KEPT
3. Compare the pack with what the log says it gave out (`digest` of the event trail.export):
   sha256sum PACK.zip

Exit status: 0 whole, 1 tampered, 4 incomplete, 5 cannot tell; 2 wrong use, 3 another system failed.

{limit}
report.html is for reading; it proves nothing, and every figure in it names its leaves.
"""


def _leaves(figure: _Figure) -> str:
    spans = [str(a) if a == b else f"{a}–{b}" for a, b in figure.ranges]
    more = "; more: verify.py --list" if figure.is_cut else ""
    return f"{', '.join(spans)}{more}"


def _row(index: int, event: Mapping[str, Any], result: str) -> str:
    said = f"{result} ({event['why']})" if "why" in event else result
    run = event.get("run")
    names = ("dag", "run", "task") if isinstance(run, Mapping) else ()
    where = " · ".join(_text(run[name]) for name in names if name in run) if run else ""
    cells = (
        *(_when(event.get("time")), event.get("act"), said, where, _about(event)),
        f"{event.get('emitter')}:{event.get('seq')}",
    )
    return f'<tr id="leaf-{index}"><td>{index}' + "".join(f"<td>{_shown(c)}" for c in cells)


def _about(event: Mapping[str, Any]) -> str:
    pairs = (("object", "uri"), ("object", "digest"), ("key", "name"), ("key", "version"))
    parts = [(event.get(part), name) for part, name in pairs]
    return " ".join(_text(p[name]) for p, name in parts if isinstance(p, Mapping) and name in p)


def _text(value: Any) -> str:
    """A text of an event; a hidden value as what stands in its place."""
    return f"hidden {str(value.get('h'))[:8]}" if isinstance(value, Mapping) else str(value)


def _when(time_ms: Any) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ArithmeticError, OSError, TypeError, ValueError):
        return str(time_ms)


def _shown(value: Any, *, keep: str = "") -> str:
    """Escape a text, and write out the signs that would turn lines around or hide."""
    text = "".join(
        sign
        if sign.isprintable() or sign in keep
        else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in str(value)
    )
    return html.escape(text, quote=True)

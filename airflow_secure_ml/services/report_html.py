"""A security report as HTML: the part that pages show too, and a file that stands by itself.

The same report gives the same bytes. No script, nothing loaded from elsewhere; every text of an
event is escaped, and signs that hide or turn text are written out.

Source: PAGES, Alerts, Reports, Export; Look.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2

from airflow_secure_ml.core.audit.catalogue import WHYS
from airflow_secure_ml.core.audit.event_fields import END_MS
from airflow_secure_ml.services.report_figures import DAY_MS, stamp
from airflow_secure_ml.services.reporting import Bar, Figure, Report

TEMPLATES = Path(__file__).parent / "templates"
MAX_SHOWN_CHARS = 200
_WIDTH, _HEIGHT, _BASE = 1120, 164, 144
# Bars end there; beside them stand the numbers.
_PLOT = 1070
_TOP = 8


def standalone(report: Report, *, base_url: str) -> str:
    """The report as one file.

    Args:
        report: The report.
        base_url: Where Airflow's pages are, such as `https://airflow.example`; figures link there.
    """
    pages = f"{base_url.rstrip('/')}/secure-ml"
    values = report_values(
        report,
        link=lambda words: f"{pages}/events?{urlencode({'q': words})}",
        link_event=lambda name: f"{pages}/event?{urlencode({'name': name})}",
    )
    return _templates().get_template("security_report.html").render(values) + "\n"


def report_values(
    report: Report, *, link: Callable[[str], str], link_event: Callable[[str], str]
) -> dict[str, Any]:
    """What the template `_report.html` shows.

    Args:
        report: The report.
        link: Address of the Events page with a filter.
        link_event: Address of one event's page.
    """
    return {
        "report": report,
        "period": period_of(report.from_ms, report.until_ms),
        "chart": _chart(report.bars),
        "words": WHYS,
        "link": link,
        "link_event": link_event,
        "shown": _shown,
        "width": _width,
        "when": _when,
    }


def period_of(from_ms: int, until_ms: int) -> str:
    """A period in words: its first and last day, or its moments."""
    if from_ms % DAY_MS or until_ms % DAY_MS:
        return f"{stamp(from_ms)} to {stamp(until_ms)}"
    first, last = stamp(from_ms), stamp(until_ms - DAY_MS)
    return first if first == last else f"{first} to {last}"


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _chart(bars: Sequence[Bar]) -> Mapping[str, Any]:
    """Where everything of the chart is, in its own units; one decimal is enough for the eye."""
    top = _nice(max((bar.count for bar in bars), default=0))
    step = _PLOT / max(len(bars), 1)
    gap = min(3.0, step / 4)
    scale = (_BASE - _TOP) / top
    return {
        "width": _WIDTH,
        "plot": _PLOT,
        "height": _HEIGHT,
        "base": _BASE,
        "bar": f"{step - gap:.1f}",
        "each": _each(bars),
        "lines": [
            {"y": round(_BASE - value * scale, 1), "label": f"{value:,}"}
            for value in (top, top // 2)
            if value
        ],
        "bars": [_drawn(bar, number * step + gap / 2, scale) for number, bar in enumerate(bars)],
        "ticks": _ticks(bars, step),
    }


def _drawn(bar: Bar, x: float, scale: float) -> Mapping[str, Any]:
    # A refusal is never too small to be seen.
    refused = max(bar.refused * scale, 3.0) if bar.refused else 0.0
    height = max(bar.count * scale, refused, 1.0) if bar.count else 0.0
    return {
        "x": f"{x:.1f}",
        "y": f"{_BASE - height:.1f}",
        "height": f"{height:.1f}" if height else "",
        "refused": f"{refused:.1f}" if refused else "",
        "refused_y": f"{_BASE - refused:.1f}",
        "title": f"{bar.label}: {bar.count:,} events, {bar.refused:,} refused",
        "filter": bar.filter,
    }


def _each(bars: Sequence[Bar]) -> str:
    if bars and bars[0].label.startswith("from "):
        return "in equal parts of the period"
    return "an hour" if bars and "T" in bars[-1].label else "a day"


def _ticks(bars: Sequence[Bar], step: float) -> list[Mapping[str, Any]]:
    """The first, the middle and the last label."""
    if not bars:
        return []
    last = len(bars) - 1
    places = {0: ("start", 0.0), last // 2: ("middle", (last // 2 + 0.5) * step)}
    places[last] = ("end", float(_PLOT))
    if last < 2:
        places.pop(1, None)
    return [
        {"x": f"{x:.1f}", "anchor": anchor, "label": bars[at].label.removeprefix("from ")}
        for at, (anchor, x) in sorted(places.items())
    ]


def _nice(count: int) -> int:
    """The first of 2, 4, 10, 20, 40 … that is not below; an even number halves well."""
    top = 2
    while top < count:
        top = top * 2 if str(top)[0] in "12" else top * 5 // 2
    return top


def _width(count: int, figures: Sequence[Figure]) -> str:
    """A share of the largest of several figures, in hundredths."""
    largest = max((figure.count for figure in figures), default=0)
    return f"{max(100 * count / largest, 0.5) if largest else 0:.1f}"


def _when(time_ms: int) -> str:
    if not 0 <= time_ms < END_MS:
        return str(time_ms)
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _shown(value: object) -> str:
    """A text of an event, cut, without signs that hide or turn what is beside it."""
    text = str(value)
    cut = text[:MAX_SHOWN_CHARS]
    found = "".join(
        char if char == " " or unicodedata.category(char)[0] not in "CZ" else _escape(char)
        for char in cut
    )
    return found + "…" if len(text) > MAX_SHOWN_CHARS else found


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")

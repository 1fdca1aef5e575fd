"""Draw how many events there were over time: bars to click, each a way to zoom into its time.

Pure. Times are cut at round moments, so that a bar is an hour or a day and not 4,013 seconds;
positions are percentages, so that the drawing is as wide as its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_secure_ml.core.audit.query import Histogram

MAX_BARS = 96
MAX_TICKS = 8
# Pixels; one event is seen beside ten thousand.
HEIGHT = 44
LEAST = 2
# Of a step's width; the rest keeps bars apart.
FILLED = 0.82
# Milliseconds that a four-digit year can say.
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
_S, _MIN, _H, _DAY = 1000, 60_000, 3_600_000, 86_400_000
STEPS = (
    1, 2, 5, 10, 20, 50, 100, 200, 500,
    *(_S * n for n in (1, 2, 5, 10, 15, 30)),
    *(_MIN * n for n in (1, 2, 5, 10, 15, 30)),
    *(_H * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)),
)  # fmt: skip
_UNITS = ((_DAY, "day"), (_H, "hour"), (_MIN, "minute"), (_S, "second"), (1, "millisecond"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A stretch of time in equal steps.

    Attributes:
        from_ms: Where it begins, ms since 1970 UTC; a multiple of `step_ms`.
        step_ms: How long a step is; one of STEPS.
        steps: How many, from 1 to MAX_BARS.
    """

    from_ms: int
    step_ms: int
    steps: int

    @property
    def until_ms(self) -> int:
        """Where it ends."""
        return self.from_ms + self.step_ms * self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One step in which something happened.

    Attributes:
        x: Where the step begins, percent of the width.
        height: Of the whole bar, pixels.
        refused: Of the red part at its foot, pixels.
        href: The same filter for this time alone.
        said: What the bar says, in words.
    """

    x: str
    height: int
    refused: int
    href: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The drawing.

    Attributes:
        bars: The steps that are not empty, oldest first.
        width: Of a step, percent.
        bar_width: Of a bar, percent: a little less, so that bars stand apart.
        ticks: (x in percent, label) under it.
        most: The highest bar's number.
        said: The whole in a sentence.
        step: How long a bar is, in words.
    """

    axis: Axis
    bars: tuple[Bar, ...]
    width: str
    bar_width: str
    ticks: tuple[tuple[str, str], ...]
    most: str
    said: str
    step: str
    is_exact: bool


def axis(first_ms: int, last_ms: int) -> Axis:
    """The steps that cover the moments from `first_ms` to `last_ms`, both included."""
    first, last = (min(max(ms, FIRST_MS), LAST_MS) for ms in (first_ms, last_ms))
    last = max(first, last)
    for step in STEPS:
        begin = first // step
        steps = last // step - begin + 1
        if steps <= MAX_BARS:
            return Axis(from_ms=begin * step, step_ms=step, steps=steps)
    raise AssertionError("the last step covers ten thousand years")


def draw(counted: Histogram, over: Axis, zoomed: Callable[[int, int], str]) -> Chart:
    """Draw what was counted.

    Args:
        counted: One bar for each of the axis' steps; missing ones are empty.
        over: The axis that it was counted for.
        zoomed: The address of the list from a moment on and before another, ms since 1970 UTC.
    """
    bars = counted.bars[: over.steps]
    most = max((number for number, _ in bars), default=0)
    about = "" if counted.is_exact else "about "
    begin = _day_and_clock(over.from_ms, over.step_ms)
    until = _day_and_clock(over.until_ms, over.step_ms)
    return Chart(
        axis=over,
        bars=tuple(
            _bar(over, at, bar, most=most, about=about, zoomed=zoomed)
            for at, bar in enumerate(bars)
            if bar[0]
        ),
        width=_percent(1, over.steps),
        bar_width=_percent(FILLED, over.steps),
        ticks=tuple(_ticks(over)),
        most=f"{about}{most:,}",
        said=f"Events from {begin} to {until} UTC, {about}{most:,} in the highest bar",
        step=duration(over.step_ms),
        is_exact=counted.is_exact,
    )


def duration(ms: int) -> str:
    """A step's length in words: `6 hours`."""
    for unit, name in _UNITS:
        if ms % unit == 0:
            number = ms // unit
            return f"1 {name}" if number == 1 else f"{number:,} {name}s"
    raise AssertionError("every number of milliseconds is one of milliseconds")


def _bar(
    over: Axis,
    at: int,
    counted: tuple[int, int],
    *,
    most: int,
    about: str,
    zoomed: Callable[[int, int], str],
) -> Bar:
    number, refused = counted
    begin = over.from_ms + at * over.step_ms
    end = begin + over.step_ms
    height = _pixels(number, most)
    events = f"{about}{number:,} event" + ("" if number == 1 else "s")
    red = f", {about}{refused:,} refused" if refused else ""
    return Bar(
        x=_percent(at, over.steps),
        height=height,
        refused=min(_pixels(refused, most), height),
        href=zoomed(begin, end),
        said=f"{_stretch(begin, end, over.step_ms)}: {events}{red}",
    )


def _pixels(number: int, most: int) -> int:
    return max(round(HEIGHT * number / most), LEAST) if number else 0


def _percent(part: float, whole: int) -> str:
    return f"{100 * part / whole:.3f}"


def _ticks(over: Axis) -> Sequence[tuple[str, str]]:
    """Labels at round moments that are multiples of a larger step."""
    # The last label would stand out of the drawing.
    room = 1 - 0.5 / MAX_TICKS
    for step in STEPS:
        if step % over.step_ms or over.steps * over.step_ms > step * MAX_TICKS:
            continue
        first = -(-over.from_ms // step) * step
        places = range(first, over.until_ms, step)
        shares = [((ms - over.from_ms) / (over.until_ms - over.from_ms), ms) for ms in places]
        return [(f"{100 * share:.3f}", _label(ms, step)) for share, ms in shares if share <= room]
    return []


def _label(ms: int, step: int) -> str:
    moment = _moment(ms)
    if step % _DAY == 0:
        return f"{moment:%b} {moment.day}" + (f" {moment.year}" if step >= 100 * _DAY else "")
    if ms % _DAY == 0:
        return f"{moment:%b} {moment.day}"
    return _clock(ms, step)


def _clock(ms: int, step: int) -> str:
    moment = _moment(ms)
    if step % _MIN == 0:
        return f"{moment:%H:%M}"
    return f"{moment:%H:%M:%S}" + ("" if step % _S == 0 else f".{ms % 1000:03d}")


def _stretch(begin: int, end: int, step: int) -> str:
    if step == _DAY:
        return f"{_moment(begin):%Y-%m-%d}"
    first, last = _day_and_clock(begin, step), _day_and_clock(end, step)
    # The day is not said twice.
    return f"{first} to {last[11:] if len(last) > 10 and last[:10] == first[:10] else last}"


def _day_and_clock(ms: int, step: int) -> str:
    day = _moment(ms).date().isoformat()
    return day if step % _DAY == 0 else f"{day} {_clock(ms, step)}"


def _moment(ms: int) -> datetime:
    held = min(max(ms, FIRST_MS), LAST_MS)
    return datetime.fromtimestamp(held // 1000, UTC)

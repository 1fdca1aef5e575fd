"""The bar appears only where somebody watches, and only for long work."""

from __future__ import annotations

import io

from airflow_secure_ml.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _drawn(stream, steps, total):
    now = [0.0]
    with Progress(total, stream=stream, clock=lambda: now[0]) as progress:
        for seconds, done in steps:
            now[0] = seconds
            progress(done)
    return stream.getvalue()


def test_short_work_draws_nothing():
    assert _drawn(Terminal(), [(0.5, 10), (1.9, 90)], 100) == ""


def test_a_pipe_gets_nothing():
    assert _drawn(io.StringIO(), [(10.0, 50)], 100) == ""


def test_long_work_shows_how_far_and_how_fast_and_is_wiped_at_the_end():
    shown = _drawn(Terminal(), [(4.0, 50_000_000)], 100_000_000)

    assert shown == ("\r[############            ]  50%  50.0 MB  12.5 MB/s\x1b[K\r\x1b[K")


def test_of_an_unknown_length_only_the_amount_is_shown():
    assert _drawn(Terminal(), [(4.0, 4_000)], None).startswith("\r4.0 kB  1.0 kB/s")


def test_it_is_not_drawn_for_every_segment():
    shown = _drawn(Terminal(), [(3.0, 1), (3.1, 2), (3.15, 3), (3.3, 4)], 10)

    assert shown.count("%") == 2

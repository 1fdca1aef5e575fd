"""What the demo says while it works."""

from __future__ import annotations

import io

import pytest

from dags_examples.demo.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_each_step_has_a_line_when_it_begins_and_one_when_it_ends():
    out = io.StringIO()
    progress = Progress(out)

    with progress.step("starting"):
        progress.tick("scheduler")

    assert out.getvalue() == "starting … 0 s\nstarting: 0 s\n"


def test_on_a_terminal_a_step_has_one_line_in_the_end():
    out = Terminal()
    progress = Progress(out)

    with progress.step("starting"):
        pass

    assert out.getvalue() == "\rstarting: 0 s\n"


def test_a_step_that_fails_leaves_the_cursor_on_a_line_of_its_own():
    out = Terminal()
    progress = Progress(out)

    with pytest.raises(KeyError), progress.step("starting"):
        raise KeyError

    assert out.getvalue() == "\rstarting …\n"

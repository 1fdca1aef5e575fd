"""The sequencer dies between two of its acts, and whatever the next one finds comes out right."""

from __future__ import annotations

import functools
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.frame import encode_frame

from .conftest import ALICE, BOB, Held, Installation, chain, segment


class Killed(BaseException):
    """What stands for SIGKILL: nothing below catches it."""


class Dying:
    """Stands before an adapter and dies before or after one of its methods."""

    def __init__(self, target, method, *, is_after):
        self._target, self._method, self._is_after = target, method, is_after

    def __getattr__(self, name):
        found = getattr(self._target, name)
        if name != self._method:
            return found

        def dying(*args, **kwargs):
            if self._is_after:
                found(*args, **kwargs)
            raise Killed

        return dying


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", ["append", "remove", "publish", "sign", "keep_refused"])
def test_a_death_between_two_acts_loses_nothing_and_repeats_nothing(site, method, is_after):
    site.put(ALICE, 0, [*chain(ALICE, 5), b"not an event"])
    site.put(BOB, 0, chain(BOB, 3, is_closed=False))
    site.start()
    target = {
        "append": "sequencer._log",
        "publish": "checkpointer._log",
        "sign": "checkpointer._signer",
        "keep_refused": "sequencer._reader._segments",
    }.get(method, "sequencer._segments")
    *path, name = target.split(".")
    owner = functools.reduce(getattr, path, site)
    setattr(owner, name, Dying(getattr(owner, name), method, is_after=is_after))

    with pytest.raises(Killed):
        site.run()
    site.close()
    site.opened.clear()
    site.start()
    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3, 4]
    assert site.of(BOB) == [0, 1, 2]
    assert site.ends(ALICE) == ["found", "whole"]
    assert site.ends(BOB) == ["found", "cut"]
    assert len(site.events("trail.refused")) == 1
    report = site.verify()
    assert (report.status, report.problem, report.signed_size) == (0, "", report.size)
    assert list(site.spool.iterdir()) == []


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["write", "tear", "unlink", "step", "restart", "die before", "die after"]),
        st.integers(0, 2),
        st.integers(1, 4),
    ),
    max_size=25,
)


class Writer:
    """An emitter as the spool writes it: what is lost with a part is written to the next."""

    def __init__(self, site, number):
        self.site, self.emitter = site, bytes([number + 1] * 16).hex()
        self.events, self.part, self.file = chain(self.emitter, 60), 0, None
        self.written = self.start = 0

    def write(self, count):
        if self.file is None:
            path = self.site.spool / f"{self.emitter}-{self.part:04d}.seg"
            self.file = path.open("xb", buffering=0)
            self.file.write(segment(self.emitter, self.part, []))
        stop = min(self.written + count, len(self.events))
        frames = [encode_frame(1, data) for data in self.events[self.start : stop]]
        self.file.write(b"".join(frames))
        self.written = self.start = stop

    def leave(self, *, tail=b""):
        """Go on in another part, from one event that is in this one already."""
        if self.file is None:
            return
        self.file.write(tail)
        self.file.close()
        self.file, self.part, self.start = None, self.part + 1, max(self.written - 1, 0)

    def unlink(self):
        if self.file is None:
            return
        path = self.site.spool / f"{self.emitter}-{self.part:04d}.seg"
        path.unlink(missing_ok=True)
        self.leave()
        self.start = 0


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(moves=MOVES)
def test_whatever_happens_in_whatever_order_every_event_is_there_once(moves, tmp_path_factory):
    site = Installation(tmp_path_factory.mktemp("site"))
    writers = [Writer(site, number) for number in range(3)]
    source = Held(site.segments())
    source.held.update(writer.emitter for writer in writers)
    site.start(segments=source)

    for move, number, count in moves:
        writer = writers[number]
        if move == "write":
            writer.write(count)
        elif move == "tear":
            writer.leave(tail=os.urandom(count))
        elif move == "unlink":
            writer.unlink()
        elif move == "step":
            site.sequencer.step()
        else:
            if move != "restart":
                site.sequencer._log = Dying(site.log, "append", is_after=move == "die after")
                with pytest.raises(Killed):
                    site.sequencer.record(_fact())
            site.log.close()
            source = Held(site.segments())
            source.held.update(each.emitter for each in writers)
            site.start(segments=source)
    for writer in writers:
        writer.write(100)
        writer.file.close()
    source.held.clear()
    site.run()

    for writer in writers:
        assert site.of(writer.emitter) == list(range(60))
        assert site.ends(writer.emitter)[-1] == "whole"
    assert site.verify().status == 0
    assert list(site.spool.iterdir()) == []
    site.close()


def _fact():
    from airflow_secure_ml.services.own_events import seen

    return seen("alert.raise", about="test")

"""The collector's loop: many senders, one thread; writing and syncing in a few others.

A sender that is being written is not read: it waits, nobody else does. Points that come at one
time are synced at one time. Nothing of a sender is believed but what the kernel says of it.

Source: AUDIT_TRAIL, What it proves; When it is durable.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_secure_ml.adapters.collector.caller import Caller, Segment, say
from airflow_secure_ml.adapters.collector.peer import Peer, peer_of
from airflow_secure_ml.adapters.collector.places import Places
from airflow_secure_ml.adapters.collector.usage import Usage
from airflow_secure_ml.adapters.collector.writing import Writers, Writing
from airflow_secure_ml.core.audit.collecting import DURABLE, REFUSED, UNAVAILABLE, Answer
from airflow_secure_ml.core.audit.receiving import Place, Refused, Sender

log = logging.getLogger(__name__)

WORKERS: Final = 16
HELLO_S: Final = 10.0
_TICK_S: Final = 0.25
_ACCEPTS: Final = 64
_DOOR, _WAKE = "door", "wake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much senders may have.

    Attributes:
        lines: Connections at a time.
        lines_of_one: Connections of one user at a time.
        users: The users that may send; None: whoever reaches the socket.
    """

    lines: int = 1024
    lines_of_one: int = 256
    users: Collection[int] | None = None


class Collector:
    """Takes what senders say, durably, each emitter from its one sender.

    Args:
        door: The listening socket.
        places: Where emitters are.
        usage: What waits of each user.
        open_segment: Makes an emitter's segment, given its name and its stamp's frame.
        tell: Says that a sender was refused: who, which emitter if any, and why.
        limits: How much senders may have.
        boot: Which boot of the machine this is.
    """

    def __init__(
        self,
        *,
        door: socket.socket,
        places: Places,
        usage: Usage,
        open_segment: Callable[[str, bytes], Segment],
        tell: Callable[[Sender, str | None, str], None],
        limits: Limits,
        boot: str,
    ) -> None:
        self._door, self._places, self._usage = door, places, usage
        self._open_segment, self._tell = open_segment, tell
        self._limits, self._boot = limits, boot
        self._callers: set[Caller] = set()
        self._live: dict[str, Caller] = {}
        self._begun: list[Writing] = []
        self._done: deque[Writing] = deque()
        self._is_stopped = self._is_roused = False
        self._ticked_s = 0.0
        self._writers = Writers(WORKERS, self._is_done)
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(door, selectors.EVENT_READ, _DOOR)
        self._selector.register(self._wake, selectors.EVENT_READ, _WAKE)

    def stop(self) -> None:
        """End `run` soon; from any thread or a signal's handler."""
        self._is_stopped = True
        self._rouse()

    def run(self) -> None:
        """Take what comes until `stop`; then write what was taken, and let go of every sender."""
        while not self._is_stopped:
            self._turn()
        self._selector.unregister(self._door)
        for caller in list(self._callers):
            # An emitter's end is not waited for: who has said it must not read as cut off.
            self._hear(caller)
            if caller in self._callers:
                self._end(caller)
        self._hand_over()
        while self._callers:
            self._turn()
        self._writers.close()
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(_TICK_S):
            self._handle(key.fd, key.data)
        # Before others are answered: the disk works meanwhile.
        self._hand_over()
        self._finish_writings()
        now_s = time.monotonic()
        if now_s - self._ticked_s >= _TICK_S:
            self._ticked_s = now_s
            self._tick(now_s)
        self._hand_over()

    def _hand_over(self) -> None:
        """Have written what was begun; all of it at once."""
        if self._begun:
            begun, self._begun = self._begun, []
            self._writers.add(begun)

    def _handle(self, descriptor: int, what: Any) -> None:
        if what == _DOOR:
            self._accept()
        elif what == _WAKE:
            self._wake.recv(4096)
            # Before what is done is looked at: what comes after that look rouses again.
            self._is_roused = False
        elif what in self._callers:
            if descriptor == what.peer.pidfd and what.look_whether_ended():
                self._selector.unregister(what.peer.pidfd)
            if what.is_idle:
                self._hear(what)
            else:
                # It sends on while it is written: not listened to until that is done.
                self._listen(what, is_reading=False)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                line, _ = self._door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("a sender cannot be let in: %s", error.strerror)
                return
            line.setblocking(False)
            try:
                peer = peer_of(line, self._boot)
            except OSError as error:
                log.warning("a sender is refused: %s", error.strerror)
                _turn_away(line, REFUSED, error.strerror or "its process cannot be told")
                continue
            self._welcome(line, peer)

    def _welcome(self, line: socket.socket, peer: Peer) -> None:
        uid, limits = peer.sender.uid, self._limits
        same = sum(1 for caller in self._callers if caller.sender.uid == uid)
        if limits.users is not None and uid not in limits.users:
            status, because = REFUSED, f"uid {uid} may not send here"
        elif same >= limits.lines_of_one or len(self._callers) >= limits.lines:
            status, because = UNAVAILABLE, "too many connections"
        else:
            caller = Caller(line, peer, time.monotonic(), self._find_place)
            self._callers.add(caller)
            self._selector.register(peer.pidfd, selectors.EVENT_READ, caller)
            self._listen(caller, is_reading=True)
            return
        _turn_away(line, status, because)
        os.close(peer.pidfd)
        self._tell(peer.sender, None, because)

    def _find_place(self, emitter: str, caller: Caller) -> Place | Refused | None:
        """Where a sender's emitter is; None while what it said before is still being written."""
        live = self._live.get(emitter)
        place = self._places.find(emitter) if live is None else live.talk.place
        if place is not None and place.sender != caller.sender:
            return Refused(because="an emitter that another process opened")
        if live is not None:
            self._end(live)
            if emitter in self._live:
                return None
            place = self._places.find(emitter)
        self._live[emitter] = caller
        caller.is_known = place is not None
        return Place(sender=caller.sender) if place is None else place

    def _hear(self, caller: Caller) -> None:
        """Take some of what a sender wrote; all that is left of one that has ended."""
        while caller.is_idle:
            if self._usage.is_over(caller.sender.uid, time.monotonic()):
                # Heard again at a tick, when the sequencer has taken some.
                self._listen(caller, is_reading=False)
                return
            try:
                found = caller.read()
            except BlockingIOError:
                return
            if isinstance(found, Refused):
                self._refuse(caller, found)
            elif not found:
                self._end(caller)
            else:
                self._go_on(caller)
            if not caller.has_ended:
                return

    def _go_on(self, caller: Caller) -> None:
        """Look at what a sender has sent, as far as that goes without waiting."""
        talk = caller.talk
        while caller.writing is None and not caller.is_closing:
            talk.go_on()
            if talk.refused is not None:
                self._refuse(caller, talk.refused)
            elif talk.taken and (talk.is_at_point or talk.is_full):
                self._write(caller)
            elif talk.is_at_point:
                self._answer(caller)
                continue
            break
        # Who waits for its answer says nothing: not to listen meanwhile would be work for nothing.
        if caller in self._callers and not caller.is_closing and caller.writing is None:
            self._listen(caller, is_reading=caller.is_idle)

    def _answer(self, caller: Caller) -> None:
        caller.talk.answered()
        if not caller.say(Answer(status=DURABLE)):
            # Who does not read what it asked for has no use for the rest.
            self._end(caller)

    def _refuse(self, caller: Caller, refused: Refused) -> None:
        caller.say(Answer(status=REFUSED, text=refused.because))
        sender = caller.sender
        log.warning("uid %d, process %d: %s", sender.uid, sender.pid, refused.because)
        self._tell(sender, caller.emitter, refused.because)
        self._end(caller)

    def _write(self, caller: Caller) -> None:
        """Have what was taken written, by another thread; its sender is not read meanwhile."""
        reception, frames = caller.talk.reception, caller.talk.taken
        if reception is None:
            return
        if caller.segment is None:
            caller.segment = self._open_segment(reception.emitter, caller.stamp)
            self._usage.opened(reception.emitter, caller.sender.uid)
        self._usage.written(caller.sender.uid, len(frames))
        caller.writing = Writing(caller, caller.segment, frames, reception.place)
        self._begun.append(caller.writing)

    def _is_done(self, writings: Sequence[Writing]) -> None:
        self._done.extend(writings)
        if not self._is_roused:
            self._rouse()

    def _rouse(self) -> None:
        self._is_roused = True
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            # As many wake-ups as it can hold are on their way.
            return

    def _finish_writings(self) -> None:
        """Keep where emitters are now, for all at once, and only then say so."""
        written: list[Caller] = []
        places: dict[str, Place] = {}
        while self._done:
            writing = self._done.popleft()
            caller, error = writing.caller, writing.error
            if error is not None:
                self._fail(caller, error)
            elif caller.emitter is not None:
                written.append(caller)
                places[caller.emitter] = writing.place
        if not written:
            return
        try:
            self._places.save(places, has_new=not all(c.is_known for c in written))
        except sqlite3.Error as error:
            for caller in written:
                self._fail(caller, error)
            return
        for caller in written:
            self._finish(caller)

    def _finish(self, caller: Caller) -> None:
        caller.writing, caller.is_known = None, True
        caller.talk.written()
        if caller.talk.is_at_point:
            self._answer(caller)
        if caller.is_closing:
            self._end(caller)
            return
        self._go_on(caller)
        if caller.has_ended:
            self._hear(caller)

    def _fail(self, caller: Caller, error: BaseException) -> None:
        """Take nothing of what could not be written; its sender has it, and may send it again."""
        log.error("emitter %s cannot be written: %s", caller.emitter, error)
        reason = error.strerror if isinstance(error, OSError) else None
        caller.say(Answer(status=UNAVAILABLE, text=reason or type(error).__name__))
        caller.writing = None
        caller.talk.written()
        self._end(caller)

    def _end(self, caller: Caller) -> None:
        """Listen no more; let go once what was taken is written."""
        caller.is_closing = True
        self._listen(caller, is_reading=False)
        if caller.writing is None and caller.talk.taken:
            self._write(caller)
        if caller.writing is None and caller in self._callers:
            self._let_go(caller)

    def _let_go(self, caller: Caller) -> None:
        self._callers.discard(caller)
        if not caller.has_ended:
            self._selector.unregister(caller.peer.pidfd)
        if caller.emitter is not None and self._live.get(caller.emitter) is caller:
            del self._live[caller.emitter]
        caller.close()

    def _listen(self, caller: Caller, *, is_reading: bool) -> None:
        if caller.is_reading == is_reading:
            return
        caller.is_reading = is_reading
        if is_reading:
            self._selector.register(caller.line, selectors.EVENT_READ, caller)
        else:
            self._selector.unregister(caller.line)

    def _tick(self, now_s: float) -> None:
        """See to those that wait for room, for their own earlier line, or say nothing at all."""
        for caller in list(self._callers):
            if caller.is_closing or caller.is_reading or caller.writing is not None:
                is_mute = caller.is_reading and caller.talk.reception is None
                if is_mute and now_s - caller.since_s > HELLO_S:
                    self._end(caller)
                continue
            self._go_on(caller)
            self._hear(caller)


def _turn_away(line: socket.socket, status: int, text: str) -> None:
    say(line, Answer(status=status, text=text))
    line.close()

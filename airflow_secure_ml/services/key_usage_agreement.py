"""Hold a key system's own log against the trail, use by use.

Pure: what the log says and what the trail says come as values. What is on one side alone is named;
what cannot be told is said to be so, and is never agreement.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_secure_ml.core.audit.outside_use import REFUSED, UNANSWERED, OutsideUse
from airflow_secure_ml.services.recorded_uses import RecordedUse
from airflow_secure_ml.services.use_matching import Span, paired

AGREE, DIFFERENT, CANNOT_TELL = 0, 4, 5
UNRECORDED, UNASKED = "unrecorded", "unasked"
_HOUR_MS = 3_600_000
_LEASE_KINDS = ("grant", "renew", "revoke", "read")

Subject = tuple[str, str]
_REVOKE = ("revoke", "")
_EDGE = "it is where the other side begins or ends, within the clocks' tolerance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is compared.

    Attributes:
        mounts: Every key of these mounts.
        keys: And these, as `mount/name`.
        paths: Paths of leases and secrets, beside those that the trail names.
        apart: Keys of these mounts that no act uses, such as the trail's own.
    """

    mounts: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What each side knows of, ms since 1970 UTC.

    Attributes:
        log: First and last time that the system's log covers.
        trail: First and last time that the trail covers.
        tolerance_ms: How far the clocks of both sides may differ.
        says_end: Whether a person said where it ends; else acts after it are missing their side.
    """

    log: tuple[int, int]
    trail: tuple[int, int]
    tolerance_ms: int
    says_end: bool = False

    @property
    def both(self) -> tuple[int, int]:
        """What both cover."""
        return max(self.log[0], self.trail[0]), min(self.log[1], self.trail[1])

    def is_sure(self, side: tuple[int, int], from_ms: int, to_ms: int) -> bool:
        """Whether a span lies in what the other side covers, whatever the clocks."""
        return side[0] + self.tolerance_ms <= from_ms and to_ms <= side[1] - self.tolerance_ms


@dataclass(slots=True, kw_only=True)
class Agreement:
    """What came of it.

    Attributes:
        period: What was compared.
        matched: Uses that both sides tell of.
        unrecorded: Uses that only the log tells of.
        unasked: Uses that only the trail tells of.
        unsure: Uses of which it cannot be told, with the reason.
        doubts: Why the whole cannot be told; empty: it can.
        counts: (kind, about, hour since 1970) to uses in the log and in the trail.
        refused: What the system refused, by what and whose.
        others: What was not compared, by what and whose.
    """

    period: Period
    matched: int = 0
    unrecorded: list[OutsideUse] = field(default_factory=list)
    unasked: list[RecordedUse] = field(default_factory=list)
    unsure: list[tuple[OutsideUse | RecordedUse, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    counts: dict[tuple[str, str, int], list[int]] = field(default_factory=dict)
    refused: Counter[Subject] = field(default_factory=Counter)
    others: Counter[Subject] = field(default_factory=Counter)

    @property
    def status(self) -> int:
        """0 agree, 4 differences, 5 cannot tell."""
        if self.unrecorded or self.unasked:
            return DIFFERENT
        return CANNOT_TELL if self.unsure or self.doubts else AGREE

    def count(self, kind: str, about: str, time_ms: int, units: int, side: int) -> None:
        """Count uses of one side (0 the log, 1 the trail)."""
        self.counts.setdefault((kind, about, time_ms // _HOUR_MS), [0, 0])[side] += units


def agree(
    asked: Iterable[OutsideUse],
    recorded: Iterable[RecordedUse],
    scope: Scope,
    period: Period,
    doubts: Sequence[str] = (),
) -> Agreement:
    """Compare both sides.

    Args:
        asked: What the system's log tells, in any order.
        recorded: What the trail tells of this system, in any order.
        scope: What is compared.
        period: When.
        doubts: What is known to be missing, such as lines that cannot be read.
    """
    found = Agreement(period=period, doubts=list(doubts))
    said = _recorded(recorded, found)
    uses = _asked(asked, _Known(said, scope), found)
    _pair(uses, said, found)
    if not found.matched:
        if found.unasked or found.unsure:
            found.doubts.append(
                "not one use is told of by both sides: it may be another system's log, another "
                "mount, or the clocks differ by more than the tolerance"
            )
        elif not found.unrecorded:
            found.doubts.append("there is no use to compare in this period")
        if found.unasked and not found.unrecorded:
            # Nothing of this log is ours, so it is no witness against the trail.
            because = "nothing in this log is of this deployment"
            found.unsure += [(each, because) for each in found.unasked]
            found.unasked = []
    return found


class _Known:
    """What the trail and the scope name, to tell which uses are this deployment's."""

    def __init__(self, said: Sequence[RecordedUse], scope: Scope) -> None:
        keyed = [each for each in said if each.kind not in _LEASE_KINDS]
        self.mounts, self.apart = scope.mounts, scope.apart
        self.keys = scope.keys | {each.about for each in keyed if each.about}
        self.leases = {each.lease for each in said if each.lease}
        self.paths = scope.paths | {each.about for each in said if each.kind == "grant"}
        self.names = {each.about for each in said if each.kind == "read" and each.about}

    def subject(self, use: OutsideUse, ours: Collection[str]) -> Subject | None:
        """What a use is compared as; None: it is not this deployment's."""
        kind, about = use.kind, use.about
        if kind not in _LEASE_KINDS:
            is_ours = about in self.keys or about.rpartition("/")[0] in self.mounts
            return (kind, about) if is_ours and about not in self.apart else None
        if kind == "read":
            return self._read(about)
        if use.lease in self.leases:
            return _REVOKE if kind == "revoke" else (kind, use.lease)
        if kind == "grant" and about in self.paths:
            return kind, about
        # A lease's end is asked for by an id that the log hides: whose it is tells the token.
        is_ours = kind == "revoke" and not use.lease and use.accessor in ours
        return _REVOKE if is_ours else None

    def _read(self, path: str) -> Subject | None:
        if path in self.paths:
            return "grant", path
        parts = path.split("/")
        tails = ("/".join(parts[at:]) for at in range(len(parts)))
        return next((("read", tail) for tail in tails if tail in self.names), None)


def _recorded(recorded: Iterable[RecordedUse], found: Agreement) -> list[RecordedUse]:
    period, said, after, untold = found.period, list[RecordedUse](), 0, 0
    first_ms, last_ms = period.log
    for each in recorded:
        if each.from_ms > last_ms + period.tolerance_ms:
            after += each.needs
        elif each.to_ms < first_ms - period.tolerance_ms:
            continue
        elif not each.about:
            untold += each.needs
        else:
            said.append(each)
    if after and not period.says_end:
        found.doubts.append(
            f"{after} recorded uses are later than the log's last entry; bring the rest of the "
            "log, or say with --until where to end"
        )
    if untold:
        found.doubts.append(
            f"{untold} recorded uses do not tell of what: their names are hidden, or the settings "
            "do not say where the key lies"
        )
    return said


def _asked(
    asked: Iterable[OutsideUse], known: _Known, found: Agreement
) -> list[tuple[Subject, OutsideUse]]:
    leases, ours = dict[str, str](), set[str]()
    kept: list[OutsideUse] = []
    for use in asked:
        if use.names_lease:
            # A renewal names its lease in both ways, and so gives away what the log hides.
            leases[use.hashed] = use.lease
        if use.state != REFUSED and known.subject(use, ()) is not None:
            ours.add(use.accessor)
        if _is_in(found.period, use.time_ms):
            kept.append(use)
    uses = []
    for use in kept:
        if use.hashed and not use.lease:
            use = replace(use, lease=leases.get(use.hashed, ""))
        subject = known.subject(use, ours)
        if use.state == REFUSED:
            if subject is not None or use.kind not in _LEASE_KINDS:
                found.refused[use.kind, use.about] += use.units
        elif subject is not None:
            uses.append((subject, use))
        elif use.kind != "grant" or use.lease:
            found.others[use.kind, use.about] += use.units
    return uses


def _is_in(period: Period, time_ms: int) -> bool:
    first_ms, last_ms = period.trail
    return first_ms - period.tolerance_ms <= time_ms <= last_ms + period.tolerance_ms


def _pair(
    uses: Sequence[tuple[Subject, OutsideUse]], said: Sequence[RecordedUse], found: Agreement
) -> None:
    by_subject: defaultdict[Subject, tuple[list[OutsideUse], list[RecordedUse]]] = defaultdict(
        lambda: ([], [])
    )
    for subject, use in uses:
        if use.state == UNANSWERED:
            found.unsure.append((use, "the log has no answer to it"))
            continue
        by_subject[subject][0].extend([use] * use.units)
        about = {"read": subject[1], "revoke": ""}.get(subject[0], use.about)
        found.count(subject[0], about, use.time_ms, use.units, 0)
    for each in said:
        by_subject[_subject_of(each)][1].append(each)
        if each.needs:
            about = "" if each.kind == "revoke" else each.about
            found.count(each.kind, about, each.to_ms, 1, 1)
    for points, spans in by_subject.values():
        _pair_one(points, spans, found)


def _subject_of(each: RecordedUse) -> Subject:
    if each.kind == "revoke":
        return _REVOKE
    return each.kind, each.lease or each.about


def _pair_one(uses: Sequence[OutsideUse], said: Sequence[RecordedUse], found: Agreement) -> None:
    """Uses of one subject: first those that must be there, then those that may."""
    edge = found.period.tolerance_ms
    spans = [Span(e.from_ms - edge, e.to_ms + edge, 1 if e.needs else 0) for e in said]
    first = paired([use.time_ms for use in uses], spans)
    taken = Counter(index for index in first if index is not None)
    rest = [at for at, index in enumerate(first) if index is None]
    more = [
        span._replace(takes=each.at_most - taken[index])
        for index, (span, each) in enumerate(zip(spans, said, strict=True))
    ]
    second = paired([uses[at].time_ms for at in rest], more)
    found.matched += len(uses) - sum(index is None for index in second)
    taken.update(index for index in second if index is not None)
    named: set[int] = set()
    for at, index in zip(rest, second, strict=True):
        # A request that did many at once is named once.
        if index is None and id(uses[at]) not in named:
            named.add(id(uses[at]))
            _leave_use(uses[at], found)
    for index, each in enumerate(said):
        if each.needs and not taken[index]:
            _leave_act(each, found)


def _leave_use(use: OutsideUse, found: Agreement) -> None:
    if found.period.is_sure(found.period.trail, use.time_ms, use.time_ms):
        found.unrecorded.append(use)
    else:
        found.unsure.append((use, _EDGE))


def _leave_act(each: RecordedUse, found: Agreement) -> None:
    if found.period.is_sure(found.period.log, each.from_ms, each.to_ms):
        found.unasked.append(each)
    else:
        found.unsure.append((each, _EDGE))


def by_key(counts: Mapping[tuple[str, str, int], Sequence[int]]) -> dict[Subject, tuple[int, int]]:
    """The counts without their hours."""
    total: dict[Subject, tuple[int, int]] = {}
    for (kind, about, _), (there, here) in counts.items():
        before = total.get((kind, about), (0, 0))
        total[kind, about] = (before[0] + there, before[1] + here)
    return dict(sorted(total.items()))

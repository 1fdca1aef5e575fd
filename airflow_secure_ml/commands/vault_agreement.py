"""`audit compare-vault`: hold the log of Vault's audit device against the trail, use by use."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from airflow_secure_ml.adapters.vault.audit_device import AuditDeviceLog, LogTally
from airflow_secure_ml.adapters.vault.transit_address import VaultAddress, parse_vault_address
from airflow_secure_ml.commands.agreement_told import as_data, as_lines
from airflow_secure_ml.commands.audit_log import log_reader
from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.reconcile import parse_time
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, user_name
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.outside_use import OutsideUse
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.key_systems import is_in_vault
from airflow_secure_ml.reconciling.trail import TrailSide
from airflow_secure_ml.services.agreement_alerts import alerts_due
from airflow_secure_ml.services.key_usage_agreement import Agreement, Period, Scope, agree
from airflow_secure_ml.services.recorded_uses import ACTS, RecordedUse, recorded_uses
from airflow_secure_ml.settings import Settings

# Half a kilobyte each.
MAX_USES = 1_000_000
MAX_TOLERANCE_S = 3600.0
_TAKEN_S, _POLL_S = 30.0, 0.1
# An outcome may be recorded so long after its use: of a large object that is rewrapped.
_LATER_MS = 3_600_000


def compare_vault(arguments: argparse.Namespace, session: Session) -> Result:
    """Compare, record what came of it, and name what is on one side alone."""
    edge_s = arguments.tolerance_s
    if not 0 <= edge_s <= MAX_TOLERANCE_S:
        raise ConfigurationError(f"--tolerance-s {edge_s:g}: expected 0 to {MAX_TOLERANCE_S:g}")
    now = datetime.now(UTC)
    given = (parse_time(arguments.since, now), parse_time(arguments.until, now))
    places = VaultPlaces(session.settings, arguments.conn_id)
    with Progress(None, in_words=lambda count: f"{count:.0f} entries") as progress:
        log = AuditDeviceLog(
            paths=[Path(each) for each in arguments.files],
            namespace=arguments.namespace,
            watch=progress,
        )
        uses = _bounded(log.uses(), given, round(edge_s * 1000))
    # After the log was read: whatever it tells of, the trail had the time to be told of.
    (end_ms, is_taken), reader = _mark(session), log_reader()
    trail = TrailSide(reader)
    period = _period(log.tally, (_begin_ms(trail), end_ms), given, round(edge_s * 1000))
    recorded = _recorded(trail, places, period)
    scope = Scope(
        mounts=places.mounts if not arguments.key else frozenset(),
        keys=frozenset(arguments.key or ()),
        paths=frozenset(arguments.path or ()),
        apart=places.apart,
    )
    doubts = _doubts(log.tally, given, period)
    if not is_taken:
        doubts.append(
            f"the log did not take up new events for {_TAKEN_S:g} s; look after its sequencer"
        )
    found = agree(uses, recorded, scope, period, doubts)
    _tell(session, found, trail)
    lines = as_lines(found, log.tally)
    return Result(data=as_data(found, log.tally), lines=lines, status=found.status)


class VaultPlaces:
    """Which keys of the settings lie in this log's Vault, and what Vault calls them.

    Args:
        settings: The section [secure_ml].
        conn_id: The connection to this Vault; None: there is only one.

    Raises:
        ConfigurationError: There are several, and none was named; or none of this name.
    """

    def __init__(self, settings: Settings, conn_id: str | None) -> None:
        self._settings, self._conn_id = settings, conn_id
        named = {
            name: self._address(address)
            for name, address in settings.key_names.items()
            if is_in_vault(address)
        }
        key_system = settings.key_system
        self._default = self._address(key_system) if is_in_vault(key_system) else None
        self._named = named
        found = [each for each in (self._default, *named.values()) if each is not None]
        connections = {each.conn_id for each in found}
        if conn_id is None and len(connections) > 1:
            raise ConfigurationError(
                f"expected one Vault, found keys in those of {', '.join(sorted(connections))}; "
                "say with --conn-id whose log it is"
            )
        here = connections if conn_id is None else {conn_id}
        self._here = here
        self.signer = settings.signing_key
        self.apart = self._log_key(settings.audit_signer)
        self.mounts = frozenset(each.mount for each in found if each.conn_id in here)

    def at(self, name: str) -> str | None:
        """`mount/name` of a key in this Vault; empty: nothing says so; None: in another Vault."""
        address = self._named.get(name, None if name in self._settings.key_names else self._default)
        if address is None or not name:
            return ""
        if address.conn_id not in self._here:
            return None
        return f"{address.mount}/{address.key or name}"

    def _log_key(self, address: str) -> frozenset[str]:
        """The key that signs checkpoints: no event tells of each of them."""
        if not is_in_vault(address):
            return frozenset()
        at = self._address(address)
        return frozenset({f"{at.mount}/{at.key}"})

    def _address(self, address: str) -> VaultAddress:
        return parse_vault_address(address, default_conn_id=self._settings.vault_conn_id)


def _bounded(
    uses: Iterable[OutsideUse], given: tuple[int | None, int | None], edge_ms: int
) -> list[OutsideUse]:
    """The uses of the period, and what tells which lease a hidden id is."""
    kept: list[OutsideUse] = []
    since, until = given
    for use in uses:
        is_before = since is not None and use.time_ms < since - edge_ms
        is_after = until is not None and use.time_ms > until + edge_ms
        if use.names_lease or not (is_before or is_after):
            kept.append(use)
        if len(kept) > MAX_USES:
            raise ConfigurationError(
                f"expected at most {MAX_USES} uses in Vault's log, found more; compare its files "
                "one by one, each with --since and --until"
            )
    return kept


def _begin_ms(trail: TrailSide) -> int | None:
    """When the trail began, ms: its first processes record before there is a log to take it."""
    made_ms = trail.begin_ms()
    if made_ms is None:
        return None
    # No further back: an event may claim any time.
    query = EventQuery(from_ms=made_ms - _LATER_MS, until_ms=made_ms)
    first = next(iter(trail.events(query)), None)
    return made_ms if first is None else int(first.get("time", made_ms))


def _mark(session: Session) -> tuple[int, bool]:
    """Until when the log has the trail, ms, and whether that is now.

    What this process says comes after what others said.
    """
    more = {"page": "cli audit compare-vault"}
    mark = session.sink.record(
        Fact(act="trail.view", phase="seen", result="ok", more=more, by=user_name())
    )
    session.sink.settle()
    reader, deadline = log_reader(), time.monotonic() + _TAKEN_S
    while time.monotonic() < deadline:
        leaf = _found(reader, mark)
        if leaf is not None:
            return leaf, True
        time.sleep(_POLL_S)
    newest = reader.page(EventQuery(), limit=1)
    return (int(newest[0].event.get("time", 0)) if newest else 0), False


def _found(reader: AuditReader, mark: str) -> int | None:
    try:
        leaf = reader.find(mark)
    except ConfigurationError:
        # The sequencer has yet to make the log.
        return None
    return None if leaf is None else int(leaf.event["time"])


def _period(
    tally: LogTally,
    trail: tuple[int | None, int],
    given: tuple[int | None, int | None],
    tolerance_ms: int,
) -> Period:
    since, until = given

    def clip(first: int, last: int) -> tuple[int, int]:
        return (
            first if since is None else max(first, since),
            last if until is None else min(last, until),
        )

    last_ms = tally.last_ms or 0
    return Period(
        log=clip(tally.first_ms or 0, last_ms),
        trail=clip(trail[1] if trail[0] is None else trail[0], trail[1]),
        tolerance_ms=tolerance_ms,
        says_end=until is not None and until <= last_ms,
    )


def _recorded(trail: TrailSide, places: VaultPlaces, period: Period) -> list[RecordedUse]:
    query = EventQuery(
        acts=ACTS,
        from_ms=period.log[0] - period.tolerance_ms - _LATER_MS,
        until_ms=max(period.trail[1], period.log[1]) + period.tolerance_ms + _LATER_MS,
    )
    found: list[RecordedUse] = []
    for each in recorded_uses(trail.events(query), places.at, signer=places.signer):
        found.append(each)
        if len(found) > MAX_USES:
            raise ConfigurationError(
                f"expected at most {MAX_USES} recorded uses, found more; shorten the period with "
                "--since and --until"
            )
    return found


def _doubts(tally: LogTally, given: tuple[int | None, int | None], period: Period) -> list[str]:
    doubts = []
    if not tally.entries:
        doubts.append("the log has no entry of Vault's file audit device")
    if tally.unreadable:
        doubts.append(
            f"{tally.unreadable} lines cannot be read, the first at {tally.first_unreadable}; a "
            "use may have stood there"
        )
    if tally.unpaired:
        doubts.append(
            f"{tally.unpaired} answers are there without their request: lines are missing"
        )
    since = given[0]
    if since is not None and tally.first_ms is not None:
        begins_ms = max(since, period.trail[0])
        if begins_ms < tally.first_ms - period.tolerance_ms:
            doubts.append("the log begins later than --since; bring the part before")
    return doubts


def _tell(session: Session, found: Agreement, trail: TrailSide) -> None:
    """Record what came of it, and what nobody was alerted about yet."""
    by, sink = user_name(), session.sink
    since_ms, to_ms = found.period.both
    more = {
        "source": "vault",
        "since_ms": since_ms,
        "to_ms": max(since_ms, to_ms),
        "matched": found.matched,
        "unrecorded": len(found.unrecorded),
        "unasked": len(found.unasked),
        "unknown": len(found.unsure) + len(found.doubts),
    }
    for alert in alerts_due(found, list(trail.alerts()), by):
        sink.record(alert)
    sink.record(Fact(act="coverage.check", phase="seen", result="ok", more=more, by=by))
    sink.settle()

"""Find data sets whose declared life is over; shredding them is `services.shredding`'s part.

A life is declared by a rule (`keep_days`, from the day of the signed statement) or by the author
(`keep_until` in the context), and the earlier day counts. Believed is only an accepted signature
about what lies there: whoever can write there could otherwise have anything shredded.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from airflow_secure_ml.core.manifest import Outline
from airflow_secure_ml.core.policy import Rules
from airflow_secure_ml.core.ports import ObjectStore, Verifier
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    SignatureError,
)
from airflow_secure_ml.services.manifests import build_outline
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER, KEY_SUFFIX
from airflow_secure_ml.services.sealed_walk import addresses_below
from airflow_secure_ml.services.statement_files import (
    find_statements,
    read_statements,
    signed_manifest,
)

KEEP_UNTIL = "keep_until"
# A data set that is rewritten daily gathers one a day, and some of them are megabytes.
_READ_AT_ONCE = 64
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A data set past its life.

    Attributes:
        uri: Its canonical address.
        until: The last day on which it was to be kept, UTC.
    """

    uri: str
    until: dt.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What a look for the end of lives found.

    Attributes:
        expired: Past their life, by address.
        kept: How many data sets are within it, or have none declared.
        unsigned: Addresses of data sets of which no accepted statement says when they were
            written as they lie there; they are kept.
    """

    expired: tuple[Expired, ...]
    kept: int
    unsigned: tuple[str, ...]


def find_expired(
    store: ObjectStore,
    uri: str,
    *,
    rules: Rules | None,
    verifiers: Callable[[str], Sequence[Verifier]],
    today: dt.date,
    progress: Callable[[int], None] | None = None,
) -> Retention:
    """Look at every data set below a canonical address that still has a key.

    Args:
        store: Where they lie.
        uri: A directory, or a data set itself.
        rules: The platform team's; None: none.
        verifiers: Whose statements about a data set's address are believed.
        today: The day, UTC; what was to be kept until today is kept today.
        progress: Called with the number of data sets looked at so far.

    Raises:
        ConfigurationError: Nothing is there, or a signed `keep_until` is no day.
    """
    expired, unsigned, kept = [], [], 0
    for done, root in enumerate(_data_sets(store, uri), start=1):
        writes = _writes(store, root, verifiers(root))
        if not any(_may_be_over(each, writes, rules, today) for each in writes):
            # Nothing of it is read where no statement could end its life.
            kept += bool(writes)
            unsigned += [] if writes else [root]
        elif (said := _about_what_lies_there(store, root, writes, verifiers(root))) is None:
            unsigned.append(root)
        elif (until := _last_day(said, writes, rules)) is not None and until < today:
            expired.append(Expired(uri=root, until=until))
        else:
            kept += 1
        if progress is not None:
            progress(done)
    return Retention(expired=tuple(expired), kept=kept, unsigned=tuple(unsigned))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """An accepted statement of whoever wrote a data set, and where it lies.

    Its manifest is left out: only what commits to it is kept of many.
    """

    uri: str
    said: Statement


def _writes(store: ObjectStore, root: str, verifiers: Sequence[Verifier]) -> list[_Write]:
    """What accepted signers say that was written there, newest first."""
    try:
        names = find_statements(store, root)
    except SignatureError:
        return []
    found = []
    for at in range(0, len(names), _READ_AT_ONCE):
        for each in read_statements(store, names[at : at + _READ_AT_ONCE], verifiers).held:
            if (each.statement.act, each.statement.object) == ("write", root):
                said = replace(each.statement, manifest=each.statement.commitment)
                found.append(_Write(uri=each.uri, said=said))
    return sorted(found, key=lambda each: -each.said.signed_ms)


def _about_what_lies_there(
    store: ObjectStore, root: str, writes: Sequence[_Write], verifiers: Sequence[Verifier]
) -> _Write | None:
    """The newest about the files that lie there now; None: they are others.

    A statement comes before its object, which may then never have come, and whoever can write
    there can put other files in its place. Headers tell: each holds a core_id.
    """
    try:
        outline = build_outline(store, root)
    except (FileNotFoundError, FormatError, IntegrityError):
        return None
    counts = len(outline), sum(each.size_bytes for each in outline)
    return next(
        (
            each
            for each in writes
            if (each.said.commitment.files, each.said.commitment.size_bytes) == counts
            and _names(store, each, outline, verifiers)
        ),
        None,
    )


def _names(
    store: ObjectStore, write: _Write, outline: tuple[Outline, ...], verifiers: Sequence[Verifier]
) -> bool:
    try:
        held = read_statements(
            store, [write.uri], verifiers, about=[each.path for each in outline]
        ).held
        return any(signed_manifest(store, each).outline == outline for each in held)
    except SignatureError:
        return False


def _may_be_over(
    write: _Write, writes: Sequence[_Write], rules: Rules | None, today: dt.date
) -> bool:
    try:
        until = _last_day(write, writes, rules)
    except ConfigurationError:
        # Told only of what lies there.
        return True
    return until is not None and until < today


def _last_day(write: _Write, writes: Sequence[_Write], rules: Rules | None) -> dt.date | None:
    """The last day on which what a statement is about is kept, UTC; None: for good.

    Raises:
        ConfigurationError: Its `keep_until` is no day.
    """
    days: list[dt.date] = []
    said = write.said
    keep_days = None if rules is None else rules.keep_days(said.object)
    if keep_days is not None:
        written = dt.datetime.fromtimestamp(_since_ms(said, writes) / 1000, dt.UTC).date()
        days.append(written + dt.timedelta(days=keep_days))
    text = said.context.get(KEEP_UNTIL)
    if text is not None:
        days.append(_day(said.object, text))
    return min(days, default=None)


def _since_ms(said: Statement, writes: Sequence[_Write]) -> int:
    """When it was written first: sealing data anew makes them no younger."""
    newest: dict[str, Statement] = {}
    for each in writes:
        newest.setdefault(each.said.commitment.digest, each.said)
    since_ms = said.signed_ms
    # Taken out as they are found, so that no circle is gone round twice.
    while said.replaces is not None and (before := newest.pop(said.replaces, None)) is not None:
        said = before
        since_ms = min(since_ms, said.signed_ms)
    return since_ms


def _day(uri: str, text: str) -> dt.date:
    try:
        if _DAY.fullmatch(text):
            return dt.date.fromisoformat(text)
    except ValueError:
        pass
    raise ConfigurationError(
        f"{uri}: its context says {KEEP_UNTIL} = {text[:40]!a}; expected a day such as 2027-01-31, "
        "so that it can be told when it is over; write it anew with one"
    )


def _data_sets(store: ObjectStore, uri: str) -> Iterator[str]:
    seen: set[str] = set()
    for address in addresses_below(store, uri):
        folder, _, name = address.rpartition("/")
        root = folder.removesuffix(f"/{KEY_FOLDER}")
        if name.endswith(KEY_SUFFIX) and root != folder and root not in seen:
            seen.add(root)
            yield root

"""Find data sets whose declared life is over; shredding them is `services.shredding`'s part.

A life is declared by a rule (`keep_days`, from the day of the signed statement) or by the author
(`keep_until` in the context), and the earlier day counts. Only an accepted signature is believed:
whoever can write a statement could otherwise have anything shredded.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.policy import Rules
from airflow_secure_ml.core.ports import ObjectStore, Verifier
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER, KEY_SUFFIX
from airflow_secure_ml.services.sealed_walk import addresses_below
from airflow_secure_ml.services.statement_files import find_statements, read_statements

KEEP_UNTIL = "keep_until"
# The newest are read; a data set that is rewritten daily gathers one a day.
MAX_STATEMENTS = 256
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
            written; they are kept.
    """

    expired: tuple[Expired, ...]
    kept: int
    unsigned: tuple[str, ...]


def find_expired(
    store: ObjectStore,
    uri: str,
    *,
    rules: Rules | None,
    verifiers: Sequence[Verifier],
    today: dt.date,
    progress: Callable[[int], None] | None = None,
) -> Retention:
    """Look at every data set below a canonical address that still has a key.

    Args:
        store: Where they lie.
        uri: A directory, or a data set itself.
        rules: The platform team's; None: none.
        verifiers: Whose statements are believed.
        today: The day, UTC; what was to be kept until today is kept today.
        progress: Called with the number of data sets looked at so far.

    Raises:
        ConfigurationError: Nothing is there, or a signed `keep_until` is no day.
    """
    expired, unsigned, kept = [], [], 0
    for done, root in enumerate(_data_sets(store, uri), start=1):
        said = _newest_write(store, root, verifiers)
        if said is None:
            unsigned.append(root)
        elif (until := last_day(said, rules)) is not None and until < today:
            expired.append(Expired(uri=root, until=until))
        else:
            kept += 1
        if progress is not None:
            progress(done)
    return Retention(expired=tuple(expired), kept=kept, unsigned=tuple(unsigned))


def last_day(said: Statement, rules: Rules | None) -> dt.date | None:
    """The last day on which what a statement is about is kept, UTC; None: for good.

    Raises:
        ConfigurationError: Its `keep_until` is no day.
    """
    days: list[dt.date] = []
    keep_days = None if rules is None else rules.keep_days(said.object)
    if keep_days is not None:
        written = dt.datetime.fromtimestamp(said.signed_ms / 1000, dt.UTC).date()
        days.append(written + dt.timedelta(days=keep_days))
    text = said.context.get(KEEP_UNTIL)
    if text is not None:
        days.append(_day(said.object, text))
    return min(days, default=None)


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


def _newest_write(store: ObjectStore, root: str, verifiers: Sequence[Verifier]) -> Statement | None:
    """The newest statement of whoever wrote it, under an accepted signature."""
    names = find_statements(store, root)[-MAX_STATEMENTS:]
    held = [each.statement for each in read_statements(store, names, verifiers).held]
    written = [each for each in held if each.act == "write" and each.object == root]
    return max(written, key=lambda each: each.signed_ms, default=None)

"""Hold what is left on Vault and in PostgreSQL against the trail, and say it in a few lines: pure.

Facts come from three sides: the audit trail, the servers themselves, Vault's own audit log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dags_examples.demo.summary import Summary, TaskFact, TrailFact

DATABASE = "database/creds/"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFact:
    """A key in Vault.

    Attributes:
        newest: Its newest version.
        oldest: The oldest version that may still do anything.
    """

    newest: int
    oldest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultFacts:
    """What the servers say when all tasks have ended.

    Attributes:
        roles: Roles of PostgreSQL that may log in and were not there before.
        left: A line for each token and lease in use on Vault.
        before: The key `data` before the rotation.
        after: The same after it.
        rewraps: How often Vault was asked to rewrap.
        rewrapping_opened: How often whoever asked it for that also asked to unwrap.
    """

    roles: Sequence[str]
    left: Sequence[str]
    before: KeyFact
    after: KeyFact
    rewraps: int
    rewrapping_opened: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedLeases:
    """What should be leased.

    Attributes:
        logins: How many logins of the database.
        others: How many credentials that Vault does not lease.
    """

    logins: int
    others: int


def summarize_vault(
    tasks: Sequence[TaskFact],
    events: Sequence[TrailFact],
    facts: VaultFacts,
    expected: ExpectedLeases,
) -> Summary:
    """Compare and count.

    Args:
        tasks: Every task instance of the runs.
        events: Every event of the trail that names one of them.
        facts: What the servers say.
        expected: What should be leased.
    """
    granted = [e for e in events if (e.act, e.result) == ("lease.grant", "ok")]
    logins = [e for e in granted if e.lease and e.path.startswith(DATABASE)]
    revoked = {e.lease for e in events if (e.act, e.result) == ("lease.revoke", "ok")}
    others = len(granted) - len(logins)
    ended = sum(e.lease in revoked for e in logins)
    problems = [
        *_counts("leased", len(logins), expected.logins),
        *_counts("read from KV", others, expected.others),
        *_not_ended(tasks, logins, revoked),
        *(f"PostgreSQL still has the role {role}" for role in facts.roles),
        *(f"Vault still has: {line}" for line in facts.left),
        *_rotation(facts),
    ]
    lines = [
        _line("leased", len(logins), "logins of PostgreSQL, each for one task and while it ran"),
        _line("revoked", ended, "of them when their task ended"),
        _line(
            "left",
            len(facts.roles),
            f"roles in PostgreSQL, {len(facts.left)} leases and tokens on Vault",
        ),
        _line("read", others, "secret that Vault keeps and does not lease"),
        _line("rewrapped", facts.rewraps, _rewrapped(facts)),
        _line("key data", facts.after.newest, _versions(facts)),
    ]
    return Summary(lines=lines, problems=problems)


def join(first: Summary, second: Summary) -> Summary:
    """One summary of two; the last line of the first, which is about the trail, comes last."""
    return Summary(
        lines=[*first.lines[:-1], *second.lines, *first.lines[-1:]],
        problems=[*first.problems, *second.problems],
    )


def _line(word: str, count: int, said: str) -> str:
    return f"{word:<10}{count:>4}  {said}"


def _rewrapped(facts: VaultFacts) -> str:
    opened = facts.rewrapping_opened or "nothing"
    return f"times, by Vault itself; whoever asked for it asked to open {opened}"


def _versions(facts: VaultFacts) -> str:
    before, oldest = facts.before.newest, facts.after.oldest
    return f"is its version, {before} before the rotation; {oldest} is the oldest that works"


def _counts(word: str, found: int, expected: int) -> Iterable[str]:
    if found != expected:
        yield f"{word}: {found} by the trail, expected {expected}"


def _not_ended(
    tasks: Sequence[TaskFact], logins: Sequence[TrailFact], revoked: set[str]
) -> Iterable[str]:
    names: Mapping[str, str] = {task.ti: f"{task.dag}.{task.task}" for task in tasks}
    for event in logins:
        if event.lease not in revoked:
            yield f"{names.get(event.ti, event.ti)}: its login was not revoked, by the trail"


def _rotation(facts: VaultFacts) -> Iterable[str]:
    if facts.after.newest != facts.before.newest + 1:
        yield (
            f"data: version {facts.after.newest} after the rotation, expected "
            f"{facts.before.newest + 1}"
        )
    if facts.after.oldest != facts.after.newest:
        yield f"data: version {facts.after.oldest} can still be used, expected none but the newest"
    if not facts.rewraps:
        yield "Vault was never asked to rewrap"
    if facts.rewrapping_opened:
        yield f"whoever rewrapped also asked to unwrap: {facts.rewrapping_opened} times"

"""The platform team's rules about data: who may read what, under which key, signed by whom.

The first rule whose prefix covers an address decides, in the file's order; a folder that holds a
place with a rule of its own is refused as a whole. Parsing is
`core.policy_file`'s part, recording each decision the caller's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

# A code of the audit trail and what a person reads.
_Denial = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One `[[data]]` table.

    Attributes:
        prefix: Canonical address without a slash at its end; covers itself and all below it.
        key: The only wrap key that may be used here, and the one of writes that name none.
        readers: Globs; DAG ids of which one must match. None: every DAG.
        signers: Sign keys whose signatures are accepted here. None: the deployment's.
        same_as: Address for which the objects here were made (a replica).
        plain: `allow` or `refuse` unsealed objects; None: as the task says.
        column_keys: Wrap keys that Parquet columns may have here, each with the globs of the DAGs
            that may open them. None: any key, or only `key` where there is one.
        plain_until: With `refuse`: the first day on which they are refused, in UTC.
        keep_days: For how many days after it was written a data set is kept; None: not said.
    """

    prefix: str
    key: str | None = None
    readers: tuple[str, ...] | None = None
    signers: tuple[str, ...] | None = None
    same_as: str | None = None
    plain: str | None = None
    plain_until: dt.date | None = None
    keep_days: int | None = None
    column_keys: Mapping[str, tuple[str, ...]] | None = None

    @property
    def id(self) -> str:
        """How events name the rule."""
        return f"data:{self.prefix}"

    def covers(self, uri: str) -> bool:
        """Whether the prefix is the address, or a folder above it."""
        return uri == self.prefix or _is_below(uri, self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the rules say about one act.

    Attributes:
        rule: The rule's id; `default` where none covers the address.
        digest: `sha256:` of the policy file.
        allow: Whether it may be done.
        reasons: Why not; empty if it may.
        why: The first reason's code in the audit trail; None if it may.
        warnings: What is allowed today and should be looked at.
    """

    rule: str
    digest: str
    allow: bool
    reasons: tuple[str, ...] = ()
    why: str | None = None
    warnings: tuple[str, ...] = ()

    def as_record(self) -> dict[str, str]:
        """The event's `rule` field."""
        decision = "allow" if self.allow else "deny"
        return {"id": self.rule, "digest": self.digest, "decision": decision}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A policy file.

    Attributes:
        version: What its authors call this version.
        digest: `sha256:` of its bytes.
        default: What happens to data that no rule covers: observe, warn or refuse.
        data: The rules, first match first.
    """

    version: str
    digest: str
    default: str = "observe"
    data: tuple[Rule, ...] = ()

    def rule_for(self, uri: str) -> Rule | None:
        """The first rule that covers a canonical address."""
        return next((rule for rule in self.data if rule.covers(uri)), None)

    def key_for_write(self, uri: str) -> str | None:
        """The wrap key of writes that name none; None: the deployment's."""
        rule = self.rule_for(uri)
        return rule.key if rule else None

    def signers_for_read(self, uri: str) -> tuple[str, ...] | None:
        """The sign keys whose signatures are accepted; None: the deployment's."""
        rule = self.rule_for(uri)
        return rule.signers if rule else None

    def keep_days(self, uri: str) -> int | None:
        """For how many days what is written here is kept; None: no rule says so."""
        rule = self.rule_for(uri)
        return rule.keep_days if rule else None

    def same_as(self, uri: str) -> str | None:
        """The address for which an object was made that lies here as a copy; None: this one."""
        rule = self.rule_for(uri)
        if rule is None or rule.same_as is None:
            return None
        return rule.same_as + uri[len(rule.prefix) :]

    def decide_read(
        self, uri: str, *, dag_id: str | None, sealed: bool, key: str | None, today: dt.date
    ) -> Decision:
        """Whether a DAG may read an object.

        Args:
            uri: Its canonical address.
            dag_id: Who reads; None: nobody's task (command line, notebook), whom `readers` exclude.
            sealed: Whether the object is sealed.
            key: The name of the key that opens it; None: not known yet, or not sealed.
            today: The day in UTC, for `plain_until`.
        """
        rule = self.rule_for(uri)
        if (inner := self._rule_below(uri)) is not None:
            return self._around(uri, inner)
        if rule is None:
            return self._by_default(uri)
        denied = [*_wrong_reader(rule, dag_id), *_wrong_key(rule, key)]
        return self._decision(uri, rule, denied, None if sealed else today)

    def decide_write(self, uri: str, *, key: str | None, today: dt.date) -> Decision:
        """Whether an object may be written, sealed with this key; None: not sealed."""
        rule = self.rule_for(uri)
        if (inner := self._rule_below(uri)) is not None:
            return self._around(uri, inner)
        if rule is None:
            return self._by_default(uri)
        return self._decision(uri, rule, _wrong_key(rule, key), None if key else today)

    def column_denial(self, uri: str, key: str, *, opened_by: str | None = None) -> str | None:
        """Why a Parquet column may not have a key, or not be opened with it; None: it may.

        Args:
            uri: The object's canonical address.
            key: The wrap key's name.
            opened_by: Who reads: a DAG's id, empty for what is no DAG; None: it is written.
        """
        rule = self.rule_for(uri)
        if rule is None:
            return None
        allowed = rule.column_keys
        if allowed is None:
            denied = _wrong_key(rule, key)
            return f"{uri}: column under {denied[0][1]} (rule {rule.id})" if denied else None
        if key not in allowed:
            return f"{uri}: no column may have key {key} here (rule {rule.id})"
        if opened_by is None or any(fnmatchcase(opened_by, glob) for glob in allowed[key]):
            return None
        who = f"DAG {opened_by}" if opened_by else "what is no DAG"
        return f"{uri}: {who} may not open columns under key {key} (rule {rule.id})"

    def _rule_below(self, uri: str) -> Rule | None:
        """The first rule about something inside a folder."""
        return next((rule for rule in self.data if _is_below(rule.prefix, uri)), None)

    def _around(self, uri: str, inner: Rule) -> Decision:
        # Taken as a whole, a folder would carry what lies in it past its own rule.
        text = f"{uri}: {inner.prefix} in it has a rule of its own; name what lies beside it"
        return Decision(
            rule=inner.id,
            digest=self.digest,
            allow=False,
            reasons=(f"{text} (rule {inner.id})",),
            why="rule_denied",
        )

    def _decision(
        self, uri: str, rule: Rule, denied: list[_Denial], plain_on: dt.date | None
    ) -> Decision:
        warnings = []
        if plain_on is not None and rule.plain == "refuse":
            if rule.plain_until is None or plain_on >= rule.plain_until:
                denied.append(("not_sealed", "plain objects are refused here; seal it"))
            else:
                warnings.append(f"{uri}: plain; refused from {rule.plain_until} on")
        return Decision(
            rule=rule.id,
            digest=self.digest,
            allow=not denied,
            reasons=tuple(f"{uri}: {text} (rule {rule.id})" for _, text in denied),
            why=denied[0][0] if denied else None,
            warnings=tuple(warnings),
        )

    def _by_default(self, uri: str) -> Decision:
        refused = self.default == "refuse"
        text = f"{uri}: no rule covers it"
        return Decision(
            rule="default",
            digest=self.digest,
            allow=not refused,
            reasons=(f"{text}, and default is refuse; add a [[data]] rule",) if refused else (),
            why="rule_denied" if refused else None,
            warnings=(text,) if self.default == "warn" else (),
        )


def _wrong_reader(rule: Rule, dag_id: str | None) -> list[_Denial]:
    if rule.readers is None:
        return []
    if dag_id is not None and any(fnmatchcase(dag_id, glob) for glob in rule.readers):
        return []
    who = f"DAG {dag_id}" if dag_id is not None else "what is no DAG"
    return [("rule_denied", f"{who} is not among its readers, {', '.join(rule.readers)}")]


def _wrong_key(rule: Rule, key: str | None) -> list[_Denial]:
    if rule.key is None or key is None or key == rule.key:
        return []
    return [("key_not_allowed", f"key {key}, only {rule.key} is allowed here")]


def _is_below(uri: str, prefix: str) -> bool:
    # With the slash: the rule for …/health must not cover …/healthy.
    return uri.startswith(f"{prefix}/")

"""What a task declares with `secure()`, checked while the DAG is parsed.

Each refusal is a ConfigurationError, which Airflow shows as the DAG's import error; it names the
entry and says what to do. No key, store or file is touched here.

Source: API, "Refused at parse time".
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_secure_ml.core.lease import check_lease_path
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.securing.options import Lease, Reads, Writes, is_asset, is_reference

# Where a class that `secure()` made keeps its Declaration.
MARK = "_secure_ml_declaration"
# On operators whose return value is a Reference.
RETURNS = "_secure_ml_returns_reference"
# The method that a resumed task enters if its trigger would have ended it with success.
ENDED = "_secure_ml_ended"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_CONN_ID = re.compile(r"[A-Za-z0-9_.:#/-]{1,250}", re.ASCII)
_CONTEXT_KEY = re.compile(r"[a-z0-9._-]{1,64}")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_LATE_NAME = re.compile(r"\bsecure(?:\.(\w+)|\[\s*['\"](\w+)['\"]\s*\])")
_RESERVED = frozenset({"secure", "args"})
_WRITTEN_CONTEXT = frozenset({"object", "dag_id", "task_id", "run_id", "map_index"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The reads, writes and credentials of one task, by name.

    Attributes:
        reads: Name to Reads; a name given without options has empty ones.
        writes: Name to Writes.
        leases: Name to Lease.
        is_remote: The body runs elsewhere.
    """

    reads: Mapping[str, Reads]
    writes: Mapping[str, Writes]
    leases: Mapping[str, Lease] = field(default_factory=dict)
    is_remote: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, reads first."""
        return (*self.reads, *self.writes, *self.leases)

    @property
    def conn_ids(self) -> frozenset[str]:
        """Connections whose login is a leased one, or none."""
        return frozenset(lease.conn_id or name for name, lease in self.leases.items())

    def addressed(self, name: str) -> bool:
        """Whether the declaration itself says where `name` lies."""
        if name in self.leases:
            return True
        entry = self.reads.get(name)
        where = entry.source if entry is not None else self.writes[name].target
        return where is not None


def declare(reads: Any, writes: Any, credentials: Any, remote: bool) -> Declaration:
    """Bring what the author typed into one form.

    Raises:
        ConfigurationError: Anything that "Refused at parse time" lists and that can be seen
            without the task.
    """
    found = Declaration(
        reads={name: _as_reads(name, entry) for name, entry in _entries("reads", reads)},
        writes={name: _as_writes(name, entry) for name, entry in _entries("writes", writes)},
        leases={
            name: _as_lease(name, entry) for name, entry in _entries("credentials", credentials)
        },
        is_remote=remote,
    )
    if not found.names:
        raise ConfigurationError(
            "secure(): nothing to secure; name at least one entry in reads=, writes= or "
            "credentials="
        )
    kinds = {"reads": found.reads, "writes": found.writes, "credentials": found.leases}
    for (kind, names), (other, others) in itertools.combinations(kinds.items(), 2):
        for name in names.keys() & others.keys():
            raise ConfigurationError(
                f"secure(): {name!r} stands in {kind} and in {other}; give each its own name"
            )
    if len(found.conn_ids) < len(found.leases):
        raise ConfigurationError(
            "secure(): two credentials are for one connection; give one of them another conn_id"
        )
    if remote:
        _check_remote(found)
    return found


def _check_remote(found: Declaration) -> None:
    """Refuse options that need the data here."""
    here = "needs the data on the worker, and with remote=True nothing is opened there"
    for name, read in found.reads.items():
        for option in ("stream", "expect", "quarantine", "columns"):
            if getattr(read, option):
                raise ConfigurationError(
                    f"secure(): reads[{name!r}].{option} {here}; validate it in a task before, "
                    "or drop it"
                )
    for name, write in found.writes.items():
        for option in ("expect", "columns"):
            if getattr(write, option):
                raise ConfigurationError(
                    f"secure(): writes[{name!r}].{option} {here}; validate it in a task behind, "
                    "or drop it"
                )


def _entries(kind: str, given: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(given, str):
        raise ConfigurationError(
            f"secure({kind}={given!r}): expected a mapping of names to addresses, or a list of "
            f"names; write {kind}={{'data': {given!r}}}"
        )
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Collection) and kind != "credentials":
        pairs = [(name, None) for name in given]
    else:
        raise ConfigurationError(
            f"secure({kind}=…): expected a mapping or a list of names, found {type(given).__name__}"
        )
    seen: set[str] = set()
    for name, _ in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"secure({kind}=…): {name!r} cannot be a name; use a letter, then letters, "
                "digits and _, at most 64"
            )
        if name in seen:
            raise ConfigurationError(f"secure({kind}=…): {name!r} stands there twice")
        if name in _RESERVED:
            raise ConfigurationError(
                f"secure({kind}=…): {name!r} is taken by templates ({{{{ {name}.… }}}}); rename it"
            )
        seen.add(name)
    return pairs


def _as_reads(name: str, entry: Any) -> Reads:
    found = entry if isinstance(entry, Reads) else Reads(source=entry)
    where = f"reads[{name!r}]"
    if isinstance(entry, Writes):
        raise ConfigurationError(f"secure(): {where} is a Writes; use Reads or an address")
    _check_address(where, found.source)
    _check_address(f"{where}.quarantine", found.quarantine)
    _check_suite(where, found.expect)
    _check_context(where, found.context, {"object"})
    if found.stream and (found.expect is not None or found.quarantine is not None):
        raise ConfigurationError(
            f"secure(): {where} is streamed and has expectations; a stream is not held, so it "
            "cannot be checked first: validate it in a task before, or drop stream=True"
        )
    _check_read_columns(where, found)
    if found.quarantine is not None and found.expect is None:
        raise ConfigurationError(
            f"secure(): {where} has quarantine= without expect=; say which rows are bad"
        )
    if found.signed_by is not None:
        signers = (found.signed_by,) if isinstance(found.signed_by, str) else found.signed_by
        found = replace(found, signed_by=tuple(signers))
        if not found.signed_by:
            raise ConfigurationError(
                f"secure(): {where}.signed_by is empty; name a sign key or leave it out"
            )
    return found


def _as_writes(name: str, entry: Any) -> Writes:
    found = entry if isinstance(entry, Writes) else Writes(target=entry)
    where = f"writes[{name!r}]"
    if isinstance(entry, Reads):
        raise ConfigurationError(f"secure(): {where} is a Reads; use Writes or an address")
    if is_reference(found.target) or is_asset(found.target):
        raise ConfigurationError(
            f"secure(): {where} must be an address; name the asset in Writes(…, asset=…)"
        )
    _check_address(where, found.target)
    _check_suite(where, found.expect)
    _check_context(where, found.context, _WRITTEN_CONTEXT)
    _check_written_columns(where, found)
    return found


def _as_lease(name: str, entry: Any) -> Lease:
    if isinstance(entry, str):
        entry = Lease(path=entry)
    where = f"credentials[{name!r}]"
    if not isinstance(entry, Lease):
        raise ConfigurationError(
            f"secure(): {where} is a {type(entry).__name__}; give a path such as "
            "'database/creds/reader', or a Lease"
        )
    data = entry.data if isinstance(entry.data, Mapping) else {None: None}
    if not all(isinstance(text, str) for text in (entry.path, *data, *data.values())):
        raise ConfigurationError(
            f"secure(): {where}: expected a text as path, and a mapping of texts to texts as data"
        )
    for option, text in (("conn_id", entry.conn_id), ("vault_conn_id", entry.vault_conn_id)):
        if text is not None and not (isinstance(text, str) and _CONN_ID.fullmatch(text)):
            raise ConfigurationError(f"secure(): {where}.{option}: {text!r} is no connection's id")
    if not _JINJA.search(entry.path):
        check_lease_path(name, entry.path)
    return entry


def _check_address(where: str, address: Any) -> None:
    for one in address if isinstance(address, (list, tuple)) else (address,):
        if is_asset(one) or not isinstance(one, (str, os.PathLike)):
            continue
        text = os.fspath(one) if isinstance(one, os.PathLike) else one
        fixed = _JINJA.sub("", text)
        if any(sign in fixed for sign in "*?["):
            raise ConfigurationError(
                f"secure(): {where} = {text!r} is a glob; name one file or directory, or map "
                "the task over a list of addresses"
            )
        if "\0" in text:
            raise ConfigurationError(f"secure(): {where} holds a NUL")


def _check_suite(where: str, suite: Any) -> None:
    if suite is None or isinstance(suite, (str, os.PathLike)) or callable(suite):
        return
    raise ConfigurationError(
        f"secure(): {where}.expect is a {type(suite).__name__}; give a JSON file's path, or a "
        "callable that returns the suite (it is called on the worker only)"
    )


def _check_read_columns(where: str, found: Reads) -> None:
    if isinstance(found.columns, str) or not all(
        isinstance(name, str) and name for name in found.columns
    ):
        raise ConfigurationError(f"secure(): {where}.columns: expected a list of columns' names")
    if found.columns and (found.stream or found.quarantine is not None):
        raise ConfigurationError(
            f"secure(): {where}.columns: column keys go with neither stream=True nor quarantine=; "
            "the body gets a plain file of the columns that it names"
        )


def _check_written_columns(where: str, found: Writes) -> None:
    pairs = found.columns.items() if isinstance(found.columns, Mapping) else [(None, None)]
    if not all(isinstance(text, str) and text for pair in pairs for text in pair):
        raise ConfigurationError(
            f"secure(): {where}.columns: expected a mapping of columns to wrap keys, such as "
            "{'ssn': 'pii'}"
        )
    if found.columns and not found.sealed:
        raise ConfigurationError(
            f"secure(): {where} has sealed=False and columns=; columns with keys are sealed, and "
            "so are the others: drop one of the two"
        )


def _check_context(where: str, context: Mapping[str, str], taken: Collection[str]) -> None:
    for key, value in context.items():
        if key in taken:
            raise ConfigurationError(
                f"secure(): {where}.context[{key!r}] is set by the package; use another key"
            )
        if not _CONTEXT_KEY.fullmatch(key) or not isinstance(value, str):
            raise ConfigurationError(
                f"secure(): {where}.context[{key!r}]: a key is 1 to 64 of a-z 0-9 . _ - and a "
                "value is text"
            )


def late_names(value: Any) -> set[str]:
    """Names that `{{ secure.… }}` mentions anywhere in a template field's value."""
    if isinstance(value, str):
        return {
            first or second
            for block in _JINJA.findall(value)
            for first, second in _LATE_NAME.findall(block)
        }
    if isinstance(value, Mapping):
        return {name for item in value.values() for name in late_names(item)}
    if isinstance(value, (list, tuple, set)):
        return {name for item in value for name in late_names(item)}
    return set()


def varies_by_map_index(address: Any) -> bool:
    """Whether a template gives each mapped instance an address of its own."""
    if is_asset(address) or not isinstance(address, (str, os.PathLike)):
        return address is None
    blocks = " ".join(_JINJA.findall(str(address)))
    return bool(re.search(r"\bargs\b|\bmap_index|\bti\b|\btask_instance\b", blocks))


def varies_by_task(address: str) -> bool:
    """Whether a template may render differently in another task of the DAG."""
    blocks = " ".join(_JINJA.findall(address))
    return bool(re.search(r"\bargs\b|\bti\b|\btask\b|\btask_instance", blocks))

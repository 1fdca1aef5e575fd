"""From what a task was given (templates, arguments, assets, references) to a Plan.

XCom can be forged by whoever may write it, and asset events by whoever may post them: a reference
pins a digest *and* names the run whose signed statement must vouch for it, and an asset event made
through the REST API is refused.

Source: API, Addresses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.core.lease import MAX_FIELD_CHARS, check_lease_path
from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.errors import ConfigurationError, FormatError, IntegrityError, PolicyError
from airflow_secure_ml.securing.binding import ADDRESSES, PINNED, call_arguments
from airflow_secure_ml.securing.declaration import Declaration
from airflow_secure_ml.securing.options import (
    REFERENCE_VERSION,
    Lease,
    Reads,
    Writes,
    is_asset,
    is_reference,
)
from airflow_secure_ml.services.run_plan import Input, LeaseRequest, Output, Pin, Plan

if TYPE_CHECKING:
    Canonical = Callable[[str], str]

_MAX_LIST = 10_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def make_plan(
    declaration: Declaration, operator: Any, context: Mapping[str, Any], canonical: Canonical
) -> Plan:
    """Turn a rendered task's declaration into what is to be read and written.

    Args:
        declaration: What the author declared.
        operator: The task, its fields and addresses rendered.
        context: Airflow's context of this try.
        canonical: From an address to the one form it has.

    Raises:
        ConfigurationError: An address is missing, or of a kind that this release does not read.
        FormatError: A reference that is none, or of another version.
        PolicyError: An asset that nobody announced, or announced through the REST API.
    """
    ti = context["ti"]
    given = {**call_arguments(operator), **getattr(operator, ADDRESSES, {})}
    pinned: Collection[str] = getattr(operator, PINNED, ())
    folder = Path(context["dag"].fileloc).parent
    inputs: list[Input] = []
    listed: set[str] = set()
    for name, entry in declaration.reads.items():
        value = _given(given, name)
        if _is_list(value):
            value = list(value)
            listed.add(name)
        ones = value if isinstance(value, list) else [value]
        if not 1 <= len(ones) <= _MAX_LIST:
            raise ConfigurationError(
                f"reads[{name!r}]: a list of {len(ones)} addresses; 1 to {_MAX_LIST} are read"
            )
        if name in pinned:
            require_references(name, ones)
        quarantine = given.get(f"{name}.quarantine")
        if quarantine is not None and len(ones) > 1:
            raise ConfigurationError(
                f"reads[{name!r}]: quarantine= has one address and the input is a list"
            )
        inputs += [_input(name, entry, one, quarantine, folder, context, canonical) for one in ones]
    outputs = tuple(
        _output(name, entry, _given(given, name), folder, canonical)
        for name, entry in declaration.writes.items()
    )
    return Plan(
        inputs=tuple(inputs),
        outputs=outputs,
        leases=tuple(_lease(name, entry, given) for name, entry in declaration.leases.items()),
        listed=frozenset(listed),
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        is_remote=declaration.is_remote,
    )


def _lease(name: str, entry: Lease, given: Mapping[str, Any]) -> LeaseRequest:
    path, *values = given[f"{name}.lease"]
    if any(len(value) > MAX_FIELD_CHARS for value in values):
        raise ConfigurationError(
            f"credentials[{name!r}]: data of more than {MAX_FIELD_CHARS} characters; an engine "
            "takes a few words"
        )
    return LeaseRequest(
        name=name,
        path=check_lease_path(name, path),
        conn_id=entry.conn_id or name,
        data=dict(zip(entry.data, values, strict=True)),
        source=entry.vault_conn_id,
    )


def _is_list(value: Any) -> bool:
    one = isinstance(value, (str, Mapping, os.PathLike))
    return isinstance(value, Iterable) and not one


def require_references(name: str, values: Iterable[Any]) -> None:
    """Refuse an address from XCom where another task's write was to arrive; IntegrityError."""
    # A bare address is not held to a digest: in the place of a Reference it would lift the pin.
    for value in values:
        if not is_reference(value):
            raise IntegrityError(
                f"{name}: expected the Reference that the task before wrote, found "
                f"{type(value).__name__}: XCom was changed; run that task again"
            )


def _given(given: Mapping[str, Any], name: str) -> Any:
    value = given.get(name)
    if value is None:
        raise ConfigurationError(
            f"{name!r}: no address was passed; pass one at the call, or name it in secure()"
        )
    return value


def _input(
    name: str,
    entry: Reads,
    given: Any,
    quarantine: str | None,
    folder: Path,
    context: Mapping[str, Any],
    canonical: Canonical,
) -> Input:
    address, pin = resolve(name, given, context)
    signed_by = entry.signed_by
    return Input(
        name=name,
        uri=canonical(address),
        signed_by=None if signed_by is None else tuple(signed_by),
        suite=suite_source(entry.expect, folder),
        quarantine=None if quarantine is None else canonical(quarantine),
        sealed=entry.sealed,
        stream=entry.stream,
        columns=tuple(entry.columns),
        context=dict(entry.context),
        pin=pin,
    )


def _output(name: str, entry: Writes, given: Any, folder: Path, canonical: Canonical) -> Output:
    if is_asset(given) or not isinstance(given, (str, os.PathLike)):
        raise ConfigurationError(
            f"writes[{name!r}]: expected an address, found {type(given).__name__}"
        )
    return Output(
        name=name,
        uri=canonical(os.fspath(given)),
        key=entry.key,
        suite=suite_source(entry.expect, folder),
        sealed=entry.sealed,
        columns=dict(entry.columns),
        context=dict(entry.context),
    )


def suite_source(suite: Any, folder: Path) -> SuiteSource | None:
    """Where a suite comes from; a path begins at the DAG file's folder. None: no suite."""
    if suite is None:
        return None
    if callable(suite):
        return SuiteSource.from_callable(suite)
    return SuiteSource.from_file(folder / os.fspath(suite))


def resolve(name: str, given: Any, context: Mapping[str, Any]) -> tuple[str, Pin | None]:
    """The address that a value stands for, and what it pins.

    Raises:
        SecureMLError: As `make_plan`.
    """
    if is_asset(given):
        return _newest_event(name, given, context)
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(given), None
    if is_reference(given):
        reference = check_reference(name, given)
        ti = context["ti"]
        pin = Pin(digest=reference["digest"], by="reference", dag_id=ti.dag_id, run_id=ti.run_id)
        return reference["uri"], pin
    raise ConfigurationError(
        f"reads[{name!r}]: expected an address, a Reference or an Asset, found "
        f"{type(given).__name__}"
    )


def check_reference(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a Reference whose fields have the right types.

    Raises:
        FormatError: Another version, or a field that is missing or of another type.
        IntegrityError: A digest that none is.
    """
    if value.get("secure_ml") != REFERENCE_VERSION:
        raise FormatError(
            f"{name}: a reference of version {value.get('secure_ml')!r}, this release reads "
            f"{REFERENCE_VERSION}; upgrade airflow-secure-ml"
        )
    for field in ("uri", "digest"):
        if not isinstance(value.get(field), str) or not value[field]:
            raise FormatError(f"{name}: a reference without {field}; pass what a write returned")
    check_digest(name, value["digest"])
    return value


def check_signers(name: str, signed_by: Collection[str] | None) -> None:
    """Refuse a list of nobody: it would be taken for none at all, and so for the trusted ones."""
    if signed_by is not None and not signed_by:
        raise ConfigurationError(
            f"{name}: signed_by is empty; name a sign key, or leave it out for the trusted ones"
        )


def check_digest(name: str, digest: str) -> None:
    """Refuse what no artifact can have; IntegrityError, before it gets into an event."""
    if not _DIGEST.fullmatch(digest):
        raise IntegrityError(
            f"{name}: expected a digest, sha256: and 64 hex digits, found {digest[:80]!a}; pass "
            "what a write returned"
        )


def _newest_event(name: str, asset: Any, context: Mapping[str, Any]) -> tuple[str, Pin | None]:
    """What the newest event of an asset announced, pinned to its digest and its run."""
    events = context["inlet_events"][asset].ascending(False).limit(1)
    if len(events) == 0:
        raise PolicyError(
            f"reads[{name!r}]: nobody has announced a version of asset {asset.name!r} yet; run "
            "the task that writes it first",
            why="not_signed",
        )
    event = events[0]
    extra = dict(event.extra or {})
    if extra.get("from_rest_api"):
        raise PolicyError(
            f"reads[{name!r}]: the newest event of asset {asset.name!r} came through the REST "
            "API, where anyone may say anything; let a task announce it",
            why="signer_not_accepted",
        )
    if not event.source_dag_id or not event.source_run_id:
        raise PolicyError(
            f"reads[{name!r}]: the newest event of asset {asset.name!r} names no run that made "
            "it; let a task announce it",
            why="signer_not_accepted",
        )
    reference = extra.get("secure_ml")
    if not isinstance(reference, Mapping):
        raise IntegrityError(
            f"reads[{name!r}]: the newest event of asset {asset.name!r} carries no reference; "
            "name the asset in Writes(…, asset=…) of the task that makes it",
            why="not_signed",
        )
    reference = check_reference(name, reference)
    pin = Pin(
        digest=reference["digest"],
        by="asset",
        dag_id=event.source_dag_id,
        run_id=event.source_run_id,
    )
    return reference["uri"], pin

"""What one secured run is to read and write: addresses made canonical, names made plain.

Values only. Who makes a plan (a wrapped task, an operator, a notebook) decides nothing here;
`services.secured_run` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_secure_ml.core.validation import SuiteSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What an input must be, said by someone before it was opened.

    Attributes:
        digest: The artifact's digest, `sha256:…`.
        by: `reference` or `asset`: who said so.
        dag_id: The DAG whose signed statement must vouch for it.
        run_id: The run whose signed statement must vouch for it.
    """

    digest: str
    by: str
    dag_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One object or directory to open.

    Attributes:
        name: The declared name; inputs of a list share it.
        uri: The canonical address.
        signed_by: Sign keys of which one must vouch; None: the rule's, then the default.
        suite: Expectations to hold it against; None: none.
        quarantine: Canonical address for failing rows; None: a failing row refuses the input.
        sealed: False: a plain object is accepted too.
        stream: Hand out a reader instead of a copy in scratch.
        columns: Of Parquet with column keys: the only ones to open; empty: all that may be.
        context: Pairs demanded besides `object`.
        pin: What it must be; None: whatever lies there now.
    """

    name: str
    uri: str
    signed_by: tuple[str, ...] | None = None
    suite: SuiteSource | None = None
    quarantine: str | None = None
    sealed: bool = True
    stream: bool = False
    columns: tuple[str, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    pin: Pin | None = None

    @property
    def suffix(self) -> str:
        """The address's ending without its dot, such as `csv`."""
        return PurePosixPath(self.uri).suffix.removeprefix(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One object or directory to publish.

    Attributes:
        name: The declared name.
        uri: The canonical address.
        key: The wrap key; None: the rule's, then the default.
        suite: Expectations to hold it against before publishing; None: none.
        sealed: False: published plain, but signed.
        columns: Top-level Parquet column to the wrap key of its own; empty: sealed whole.
        context: Pairs added to the encryption context.
    """

    name: str
    uri: str
    key: str | None = None
    suite: SuiteSource | None = None
    sealed: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """The address's ending without its dot, such as `csv`."""
        return PurePosixPath(self.uri).suffix.removeprefix(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """One credential to lease.

    Attributes:
        name: The declared name.
        path: Where it is made, such as `database/creds/reader`; checked.
        conn_id: The Airflow connection that takes it.
        data: What its engine needs with the request.
        source: Names where it is made: a connection to Vault; None: the deployment's.
    """

    name: str
    path: str
    conn_id: str
    data: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything one run is to read, write and lease.

    Attributes:
        inputs: In the order of the declaration.
        outputs: In the order of the declaration.
        leases: In the order of the declaration.
        listed: Names of inputs whose address was a list: the body gets a list for them.
        dag_id: The DAG, for rules and the written context; empty outside Airflow.
        task_id: The task.
        run_id: The DAG run.
        map_index: -1 if unmapped.
        is_remote: The body works elsewhere, on addresses; nothing is opened here.
        noted: Of a body that works elsewhere and was deferred: what was noted of its inputs and
            outputs before it (`services.remote_work`); empty: it begins now.
    """

    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    leases: tuple[LeaseRequest, ...] = ()
    listed: frozenset[str] = frozenset()
    dag_id: str = ""
    task_id: str = ""
    run_id: str = ""
    map_index: int = -1
    is_remote: bool = False
    noted: Mapping[str, str] = field(default_factory=dict)

"""What services need from the outside, as protocols; adapters and `testing` implement them.

A port is named by its role. It deals in values of `core` and raises errors of `errors`: no
vendor's type or exception crosses it.
"""

from airflow_secure_ml.core.ports.audit import (
    AuditSink,
    AuditStore,
)
from airflow_secure_ml.core.ports.credentials import (
    CredentialSource,
)
from airflow_secure_ml.core.ports.data import (
    DataChecker,
    RowSplitter,
)
from airflow_secure_ml.core.ports.keys import (
    KeyRef,
    KeyRotation,
    KeySystem,
    KeyVersion,
    KeyWrapper,
    RotatingKeys,
    Signer,
    Verifier,
)
from airflow_secure_ml.core.ports.objects import (
    DirectoryWriter,
    ObjectInfo,
    ObjectStore,
    ObjectWriter,
    PinnedDirectory,
    PinnedObject,
)
from airflow_secure_ml.core.ports.rechecking import (
    DigestMemory,
    Recollection,
)

__all__ = [
    "AuditSink",
    "AuditStore",
    "CredentialSource",
    "DataChecker",
    "DigestMemory",
    "DirectoryWriter",
    "KeyRef",
    "KeyRotation",
    "KeySystem",
    "KeyVersion",
    "KeyWrapper",
    "ObjectInfo",
    "ObjectStore",
    "ObjectWriter",
    "PinnedDirectory",
    "PinnedObject",
    "Recollection",
    "RotatingKeys",
    "RowSplitter",
    "Signer",
    "Verifier",
]

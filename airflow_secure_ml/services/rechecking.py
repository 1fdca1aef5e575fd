"""Verify an artifact again, reading only what may have changed since it was read before.

For people who ask for it: tasks digest every byte that they read. What is remembered is as good as
the file system's word about its files; nothing of it is signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_secure_ml.core.ports import DigestMemory, ObjectStore
from airflow_secure_ml.services.artifact import pin_artifact
from airflow_secure_ml.services.manifests import manifest_of
from airflow_secure_ml.services.signing import Demand, Verified, signed_algorithm, verify_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rechecked:
    """An artifact that was verified.

    Attributes:
        verified: As `verify_artifact` gives it.
        remembered: How many of its files were not read, since they are as they were.
    """

    verified: Verified
    remembered: int


def recheck_artifact(
    store: ObjectStore,
    uri: str,
    demand: Demand,
    memory: DigestMemory,
    *,
    threads: int | None = None,
) -> Rechecked:
    """Require a statement about an artifact's bytes, and remember what was read.

    Raises:
        ConfigurationError: As `DigestMemory.recall`.
        SecureMLError: As `verify_artifact`.
    """
    with pin_artifact(store, uri) as artifact:
        algorithm = signed_algorithm(store, artifact, demand)
        recollection = memory.recall(artifact.held, algorithm, uri=uri)
        manifest = manifest_of(
            artifact, algorithm=algorithm, threads=threads, remembered=recollection
        )
        # Also of what is refused: its digests are what was read, whoever signed them.
        recollection.keep(manifest)
        remembered = len(recollection.known)
    verified = verify_manifest(store, uri, manifest, demand)
    return Rechecked(verified=verified, remembered=remembered)

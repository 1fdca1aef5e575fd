"""Port to what is remembered of files that were read before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports.objects import PinnedDirectory, PinnedObject


class Recollection(Protocol):
    """What is remembered of one pinned artifact, and what is read of it now."""

    @property
    def known(self) -> Mapping[str, Entry]:
        """By relative path: what was read of files that are as they were."""

    def note(self, path: str, pinned: PinnedObject) -> None:
        """Look at a file right before it is read whole. Safe from many threads."""

    def keep(self, manifest: Manifest) -> None:
        """Remember what was read; only of files that can be told from what they may become."""


class DigestMemory(Protocol):
    """Remembers digests of files of this machine between two verifications."""

    def recall(
        self, held: PinnedObject | PinnedDirectory, algorithm: str, *, uri: str
    ) -> Recollection:
        """What is remembered of what is pinned, digested with that algorithm.

        Raises:
            ConfigurationError: Nothing can be remembered of such an artifact, or the memory is
                not this user's alone.
        """

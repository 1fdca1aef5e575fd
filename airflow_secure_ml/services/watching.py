"""Look whether waiting for an artifact is over, without recording and without reading it again.

It only decides whether to go on waiting. Whatever ends the wait is verified, and recorded, by the
task that waited: what is found here is trusted by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.ports import ObjectStore, Verifier
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.artifact import Artifact, pin_artifact
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.found_inputs import demand_for
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.signing import find_statements, statements_for
from airflow_secure_ml.services.vouching import is_still_to_come


class Watch:
    """Looks at one artifact again and again.

    Args:
        item: What is waited for.
        make_work: Its desk says whose signatures count; nothing is said in its journal.
    """

    def __init__(self, item: Input, make_work: Callable[[Input], Work]) -> None:
        self._item, self._make_work = item, make_work
        self._seen: tuple[object, ...] | None = None

    def is_over(self) -> bool:
        """Whether there is something to verify: an accepted statement, or a reason to refuse.

        An artifact that has not changed since the last call is not read again.

        Raises:
            ServiceUnavailableError: The store or the key system did not answer.
            SecureMLError: The settings are wrong, or the key system does not know the signers.
        """
        work = self._make_work(self._item)
        store = work.desk.store(self._item.uri)
        demand = demand_for(work, self._item)
        try:
            found = _identity(store, self._item.uri, demand.verifiers)
            if found == self._seen:
                return False
            statements_for(store, self._item.uri, demand)
        except FileNotFoundError:
            self._seen = None
            return False
        except SecureMLError as error:
            # Whoever still writes makes any reading fail: that is no reason to refuse yet.
            moved = self._moved(store, demand.verifiers, found)
            self._seen = None if moved else found
            return not (moved or is_still_to_come(error))
        return True

    def _moved(
        self, store: ObjectStore, verifiers: Sequence[Verifier], found: tuple[object, ...]
    ) -> bool:
        try:
            return _identity(store, self._item.uri, verifiers) != found
        except FileNotFoundError:
            return True


def _identity(store: ObjectStore, uri: str, verifiers: Sequence[Verifier]) -> tuple[object, ...]:
    """What changes when the answer may: the files, the statements beside them, and the signers."""
    with pin_artifact(store, uri) as artifact:
        versions = [("", artifact.version)]
        if not artifact.version:
            versions = [(name, _version(artifact, name)) for name in artifact.names()]
    signers = [(str(each.ref), each.public_key) for each in verifiers]
    return tuple(versions), tuple(find_statements(store, uri)), tuple(signers)


def _version(artifact: Artifact, name: str) -> str:
    with artifact.open(name) as pinned:
        return pinned.version


class Silence:
    """An AuditSink for looks that are recorded by whoever acts on them."""

    def record(self, fact: Fact) -> str:
        """Take a fact and forget it."""
        return ""

    def settle(self) -> None:
        """Return."""

    def close(self) -> None:
        """Return."""

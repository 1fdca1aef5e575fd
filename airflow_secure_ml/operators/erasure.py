"""Erasure as visible steps: whose declared life is over, and the end of a data set's key.

Returns plain records, never a key. Each act is an event before it happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_secure_ml.core.ports import Verifier
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.operators.fields import Address, as_text, rendered_address
from airflow_secure_ml.operators.telling import told
from airflow_secure_ml.securing.key_acting import KeyOperator
from airflow_secure_ml.services.promised_outputs import producer_of
from airflow_secure_ml.services.retention import find_expired
from airflow_secure_ml.services.shredding import Asked, shred_data_set

_MAX_REASON_CHARS = 1000


class ShredDataSetOperator(KeyOperator):
    """Destroy the key of a sealed directory: nothing opens it afterwards, and nobody can undo it.

    Every copy of the key's file that the store has goes, older versions too; a signed certificate
    of destruction stays beside it. Copies elsewhere (backups, replicas) are yours to remove.
    Refused, with nothing lost, where a file would stay readable. Returns what was destroyed and
    the certificates' addresses.

    Args:
        dataset: Address of the sealed directory.
        reason: Why, in a few words; public, in the certificate and the trail.
    """

    template_fields: Sequence[str] = ("dataset", "reason")

    def __init__(self, *, dataset: Address, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dataset, self.reason = as_text(dataset), reason

    def execute(self, context: Any) -> dict[str, Any]:
        """Shred; begun again after an interruption it goes on."""
        with self.acting(context) as (here, work):
            uri = here.canonical(rendered_address("dataset", self.dataset))
            rules = work.desk.rules
            if rules is not None:
                key = rules.key_for_write(uri) or here.settings.data_key
                decision = rules.decide_write(uri, key=key, today=work.today)
                work.obey(decision, "shred", "dataset")
            work.desk.still_ours()
            done = shred_data_set(
                here.store(uri),
                uri,
                Asked(
                    reason=_reason(self.reason),
                    now_ms=work.desk.now_ms(),
                    producer=producer_of(work),
                ),
                signer=here.keys.signer(here.settings.signing_key),
                verifiers=here.keys.verifiers(
                    {here.settings.signing_key, *here.settings.trusted_signers}
                ),
                trail=work.journal,
                progress=told(work, "files of the data set"),
            )
            objects = sum(len(each.objects) for each in done.destructions)
            work.journal.tell(f"shredded {uri}: {objects} files that nothing opens any more")
            return {
                "dataset": uri,
                "objects": objects,
                "copies": sum(each.copies for each in done.destructions),
                "certificates": list(done.certificates),
            }


class FindExpiredOperator(KeyOperator):
    """List the data sets below an address whose declared life is over, for a mapped shredding.

    A life is declared by a rule's `keep_days`, or by `keep_until` (a day such as 2027-01-31, UTC)
    in the context that the data set was written with. Only statements about what lies there count,
    of the signers that a rule names for it, else of the trusted ones.
    Returns addresses. Single sealed files are not listed: their key opens other files too.

    Args:
        prefix: Address of a folder, or of one data set.
    """

    template_fields: Sequence[str] = ("prefix",)

    def __init__(self, *, prefix: Address, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prefix = as_text(prefix)

    def execute(self, context: Any) -> list[str]:
        """Look; nothing is changed."""
        with self.acting(context) as (here, work):
            uri = here.canonical(rendered_address("prefix", self.prefix))
            rules = work.desk.rules

            def verifiers(data_set: str) -> Sequence[Verifier]:
                named = None if rules is None else rules.signers_for_read(data_set)
                return here.keys.verifiers(named or here.settings.trusted_signers)

            found = find_expired(
                here.store(uri),
                uri,
                rules=rules,
                verifiers=verifiers,
                today=work.today,
                progress=told(work, "data sets"),
            )
            work.journal.tell(
                f"{uri}: {len(found.expired)} data sets are past their life, {found.kept} are "
                f"not, {len(found.unsigned)} say nothing that a trusted signer signed"
            )
            return [each.uri for each in found.expired]


def _reason(given: Any) -> str:
    if not isinstance(given, str) or not 1 <= len(given.strip()) <= _MAX_REASON_CHARS:
        raise ConfigurationError(f"reason: expected 1 to {_MAX_REASON_CHARS} characters")
    return given.strip()

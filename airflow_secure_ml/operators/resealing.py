"""A change of suite or key as visible steps: artifacts sealed anew, and the proof that all are.

Returns plain records, never a key. Each act is an event before it happens.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

from airflow_secure_ml.core.crypto_policy import SUITES
from airflow_secure_ml.errors import ConfigurationError, FormatError
from airflow_secure_ml.operators.fields import Address, as_text, rendered_address
from airflow_secure_ml.operators.telling import told
from airflow_secure_ml.securing.key_acting import KeyOperator, key_name
from airflow_secure_ml.services.crypto_usage import count_crypto
from airflow_secure_ml.services.resealing import Asked, reseal_artifact
from airflow_secure_ml.services.signing import Demand


class ResealArtifactOperator(KeyOperator):
    """Seal an artifact anew where it lies: in the suite that is written now, under fresh keys.

    It is opened only if it is signed as demanded, passes through memory alone, is signed again
    with what it replaces, and appears at once. What is as wanted already stays. Unlike
    RewrapArtifactOperator it takes access from who had the old file keys; older versions and
    backups keep what they had. References that pinned the old bytes do not hold any more.

    Returns the digests before and after, the number of files and their suite.

    Args:
        artifact: Address of a sealed file or directory.
        key: Key or group that seals; None: `[secure_ml] data_key`.
        signed_by: Accepted signers; None: the trusted ones.
        anew: Whether to do it even where suite and keys are the wanted ones: to revoke.
    """

    template_fields: Sequence[str] = ("artifact", "key", "signed_by")

    def __init__(
        self,
        *,
        artifact: Address,
        key: str | None = None,
        signed_by: str | Collection[str] | None = None,
        anew: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.artifact = as_text(artifact)
        self.key, self.signed_by, self.anew = key, signed_by, anew

    def execute(self, context: Any) -> dict[str, Any]:
        """Reseal; begun again after an interruption it goes on."""
        with self.acting(context) as (here, work):
            uri, settings = (
                here.canonical(rendered_address("artifact", self.artifact)),
                here.settings,
            )
            name = settings.data_key if self.key is None else key_name(self.key)
            signers = settings.trusted_signers if self.signed_by is None else self.signed_by
            rules = work.desk.rules
            if rules is not None:
                decision = rules.decide_write(uri, key=name, today=work.today)
                work.obey(decision, "reseal", "artifact")
            work.desk.still_ours()
            try:
                done = reseal_artifact(
                    here.store(uri),
                    Asked(uri=uri, key=name, anew=self.anew, now_ms=work.desk.now_ms()),
                    keys=here.keys,
                    demand=Demand(verifiers=here.keys.verifiers(_names(signers))),
                    signer=here.keys.signer(settings.signing_key),
                    trail=work.journal,
                )
            except FileNotFoundError as error:
                raise FormatError(
                    f"{uri}: expected a sealed artifact, found nothing there", why="not_sealed"
                ) from error
            suite = SUITES[done.suite]
            how = "was as wanted" if done.replaced is None else f"sealed anew in {suite}"
            work.journal.tell(f"{how}: {uri}, {done.files} files")
            return {
                "uri": uri,
                "digest": done.digest,
                "replaced": done.replaced,
                "files": done.files,
                "suite": suite,
            }


class CryptoUsageOperator(KeyOperator):
    """Count sealed objects by suite and kind of slot; what would not be written now is old.

    Returns what was counted. With `refuse_old` the task fails while anything old is left, or if
    there was nothing to count: the proof at the end of a change. It speaks for the addresses that
    were named and for nothing else.

    Args:
        prefixes: Addresses of folders and objects.
        refuse_old: Whether old objects fail the task.
    """

    template_fields: Sequence[str] = ("prefixes",)

    def __init__(
        self, *, prefixes: Address | Sequence[Address], refuse_old: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        is_one = isinstance(prefixes, str | os.PathLike)
        # What comes from another task is looked at when it is there.
        self.prefixes: Any = os.fspath(prefixes) if is_one else prefixes  # type: ignore[arg-type]
        if isinstance(prefixes, list | tuple):
            self.prefixes = [os.fspath(each) for each in prefixes]
        self.refuse_old = refuse_old

    def execute(self, context: Any) -> dict[str, Any]:
        """Count."""
        with self.acting(context) as (here, work):
            given = self.prefixes
            listed = given if isinstance(given, list | tuple) else [given]
            if not listed:
                raise ConfigurationError("prefixes: expected at least one address, found none")
            usage = count_crypto(
                here.store,
                [here.canonical(rendered_address("prefixes", each)) for each in listed],
                here.settings.crypto_policy,
                progress=told(work, "sealed objects"),
            )
            for suite, count in sorted(usage.suites.items()):
                work.journal.tell(f"{suite}: {count} files")
            work.journal.tell(f"old: {usage.old} of {usage.sealed} sealed objects")
            if self.refuse_old:
                usage.refuse_old()
            return usage.as_record()


def _names(given: str | Collection[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)

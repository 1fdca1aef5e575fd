"""Signatures as visible steps: a gate before tasks that cannot be wrapped, and a release."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.securing.acting import SecureMLOperator, input_of
from airflow_secure_ml.services.vouching import manifest_to_vouch, vouch


class VerifyArtifactOperator(SecureMLOperator):
    """Require a signature about exactly the bytes that lie there; needs no key to open them.

    Returns a Reference that pins these bytes.

    Args:
        artifact: Address, Reference, Asset, or `{"uri": …, "digest": …}`.
        signed_by: Accepted signers; None: the rule for the address, then the trusted ones.
    """

    template_fields: Sequence[str] = ("artifact", "signed_by")

    def __init__(
        self, *, artifact: Any, signed_by: str | Collection[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.artifact, self.signed_by = artifact, signed_by

    def execute(self, context: Any) -> dict[str, Any]:
        """Verify; a refusal is not retried."""

        def item(here: Any) -> Any:
            return input_of(here, context, "artifact", self.artifact, signed_by=self.signed_by)

        return self.verified(context, item)


class SignArtifactOperator(SecureMLOperator):
    """Add a signature to an artifact; the others stay. Returns a Reference.

    What is sealed, or pinned by a Reference or an Asset, must be signed by an accepted signer
    already; a plain artifact that nobody signed yet is vouched for as it lies there.

    Args:
        artifact: Address, Reference or Asset.
        key: Sign key; None: `[secure_ml] signing_key`.
    """

    template_fields: Sequence[str] = ("artifact", "key")

    def __init__(self, *, artifact: Any, key: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.artifact, self.key = artifact, key

    def execute(self, context: Any) -> dict[str, Any]:
        """Verify what is there, then sign; a refusal is not retried."""

        def item(here: Any) -> Any:
            return input_of(here, context, "artifact", self.artifact)

        with self.recorded(context, item) as work:
            found = work.plan.inputs[0]
            manifest = manifest_to_vouch(work, found)
            key = self.key or deployment().settings.signing_key
            return self.announce(context, vouch(work, found, manifest, key))

"""At the border: seal what comes in from outside, and deliver what goes out.

Both go from address to address piece by piece: nothing is opened into scratch, whatever the length.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.operators.fields import as_text
from airflow_secure_ml.securing.acting import SecureMLOperator, input_of, plan_of
from airflow_secure_ml.services.run_plan import Output

if TYPE_CHECKING:
    from airflow_secure_ml.deployment import Deployment
    from airflow_secure_ml.services.run_plan import Plan

_NAMES = {"source": "read", "target": "write"}


class EncryptFileOperator(SecureMLOperator):
    """Seal and sign a file or directory; one that is sealed already is sealed anew (promotion).

    A sealed source is verified first; a plain one is taken as it is. Returns a Reference.

    Args:
        source: Address, Reference or Asset.
        target: Address; may be replaced only by the same task.
        key: Wrap key; None: the rule for the target, then `[secure_ml] data_key`.
        context: Pairs added to the encryption context.
    """

    template_fields: Sequence[str] = ("source", "target", "key", "context")

    def __init__(
        self,
        *,
        source: Any,
        target: str | os.PathLike[str],
        key: str | None = None,
        context: Mapping[str, str] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source, self.target = source, as_text(target)
        self.key, self.context = key, dict(context)

    def execute(self, context: Any) -> dict[str, Any]:
        """Seal; a refusal is not retried."""

        def plan(here: Deployment) -> Plan:
            source = input_of(here, context, "source", self.source, sealed=False)
            target = Output(
                name="target",
                uri=here.canonical(self.target),
                key=self.key,
                context=dict(self.context),
            )
            return plan_of(context, inputs=(source,), outputs=(target,))

        with self.secured(context, plan, _NAMES) as run:
            return self.announce(context, run.move()["target"])


class DecryptFileOperator(SecureMLOperator):
    """Deliver a sealed file or directory in plain; a rule may forbid it for the target.

    What is delivered is signed, so that the receiver can verify it with the public key alone.
    Returns nothing.

    Args:
        source: Address, Reference or Asset.
        target: Address; may be replaced only by the same task.
        signed_by: Accepted signers; None: the rule for the source, then the trusted ones.
    """

    template_fields: Sequence[str] = ("source", "target", "signed_by")

    def __init__(
        self,
        *,
        source: Any,
        target: str | os.PathLike[str],
        signed_by: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source, self.target, self.signed_by = source, as_text(target), signed_by

    def execute(self, context: Any) -> None:
        """Open and publish; a refusal is not retried."""

        def plan(here: Deployment) -> Plan:
            source = input_of(here, context, "source", self.source, signed_by=self.signed_by)
            target = Output(name="target", uri=here.canonical(self.target), sealed=False)
            return plan_of(context, inputs=(source,), outputs=(target,))

        with self.secured(context, plan, _NAMES) as run:
            run.move()

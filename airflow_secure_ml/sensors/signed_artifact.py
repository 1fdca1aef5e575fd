"""Wait until an artifact lies there with a statement of an accepted signer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk.bases.sensor import BaseSensorOperator, PokeReturnValue

from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from airflow_secure_ml.securing.acting import SecureMLOperator, input_of, surfacing
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.watching import Watch
from airflow_secure_ml.triggers.signed_artifact import (
    SignedArtifactTrigger,
    pin_facts,
    watching_work,
)


# The order matters: BaseSensorOperator's constructor calls the next one.
class SignedArtifactSensor(BaseSensorOperator, SecureMLOperator):
    """Wait for a signed artifact; returns a Reference that pins the bytes that were verified.

    Nothing there, and nothing signed by an accepted signer yet, is waited for. A statement or
    bytes that do not hold fail the task at once, and it is not retried.

    Args:
        artifact: Address, Reference, Asset, or `{"uri": …, "digest": …}`.
        signed_by: Accepted signers; None: the rule for the address, then the trusted ones.
        deferrable: Wait in the triggerer, without a worker's slot.
        poke_interval: Seconds between two looks.
    """

    template_fields: Sequence[str] = ("artifact", "signed_by")

    def __init__(
        self,
        *,
        artifact: Any,
        signed_by: str | Collection[str] | None = None,
        deferrable: bool = True,
        poke_interval: timedelta | float = 30,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.artifact, self.signed_by, self.deferrable = artifact, signed_by, deferrable
        self._watch: Watch | None = None

    def execute(self, context: Any) -> Any:
        """Wait in the triggerer if there is nothing to verify yet, or here."""
        if not self.deferrable:
            return super().execute(context)
        return self.execute_complete(context)

    def execute_complete(self, context: Any, event: Any = None) -> dict[str, Any]:
        """Verify, or go on waiting should it be gone again."""
        if not self._is_over(context):
            item = self._item(context)
            self.defer(
                trigger=SignedArtifactTrigger(
                    uri=item.uri,
                    signed_by=None if item.signed_by is None else list(item.signed_by),
                    pin=pin_facts(item.pin),
                    poke_interval=self.poke_interval,
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )
        return self._verified(context)

    def poke(self, context: Any) -> PokeReturnValue:
        """Look once."""
        if not self._is_over(context):
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._verified(context))

    def _is_over(self, context: Any) -> bool:
        """Whether there is something to verify or to refuse."""
        try:
            if self._watch is None:
                self._watch = Watch(self._item(context), watching_work)
            return self._watch.is_over()
        except ServiceUnavailableError as error:
            with surfacing():
                raise error
        except SecureMLError as error:
            # No look is recorded, but that there will be none is.
            with self.recorded(context, lambda here: self._item(context)):
                raise error

    def _item(self, context: Any) -> Input:
        return input_of(deployment(), context, "artifact", self.artifact, signed_by=self.signed_by)

    def _verified(self, context: Any) -> dict[str, Any]:
        return self.verified(context, lambda here: self._item(context))

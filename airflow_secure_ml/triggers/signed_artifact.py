"""Wait in the triggerer for a signed artifact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.run_plan import Input, Pin, Plan
from airflow_secure_ml.services.watching import Silence, Watch


class SignedArtifactTrigger(BaseTrigger):
    """Fire when there is something for the task to verify: it says no more than that.

    Args:
        uri: Canonical address.
        signed_by: Accepted signers; None: the rule for the address, then the trusted ones.
        pin: What the artifact must be, as `pin_facts` gives it; None: whatever lies there.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self,
        *,
        uri: str,
        signed_by: list[str] | None,
        pin: Mapping[str, Any] | None,
        poke_interval: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's own
        self.uri, self.signed_by, self.pin = uri, signed_by, pin
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where this class is, and its arguments."""
        kwargs = {
            "uri": self.uri,
            "signed_by": self.signed_by,
            "pin": self.pin,
            "poke_interval": self.poke_interval,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, wait, look again; reading files happens in a thread, beside the event loop."""
        item = Input(
            name="artifact",
            uri=self.uri,
            signed_by=None if self.signed_by is None else tuple(self.signed_by),
            pin=None if self.pin is None else Pin(**self.pin),
        )
        watch = Watch(item, watching_work)
        while not await asyncio.to_thread(self._look, watch):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent({"look": "again"})  # type: ignore[no-untyped-call] # Airflow's own

    def _look(self, watch: Watch) -> bool:
        try:
            return watch.is_over()
        except ServiceUnavailableError as error:
            self.log.warning("%s; looking again in %.0f s", error, self.poke_interval)
            return False
        except SecureMLError:
            # The task meets it too, and records it.
            return True


def watching_work(item: Input) -> Work:
    """What a watch over this process's deployment works with; it records nothing."""
    return deployment().work(
        Plan(inputs=(item,)),
        sink=Silence(),
        run=None,
        still_ours=lambda: None,
        tell=lambda line: None,
    )


def pin_facts(pin: Pin | None) -> dict[str, Any] | None:
    """A pin as a trigger's arguments carry it."""
    if pin is None:
        return None
    return {"digest": pin.digest, "by": pin.by, "dag_id": pin.dag_id, "run_id": pin.run_id}

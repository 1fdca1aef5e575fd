"""Wait until a key has a newer version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk.bases.sensor import BaseSensorOperator, PokeReturnValue

from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError, SecureMLError, ServiceUnavailableError
from airflow_secure_ml.securing.acting import surfacing
from airflow_secure_ml.securing.key_acting import KeyOperator, key_name
from airflow_secure_ml.services.key_watching import Bound, newer_version, parse_bound
from airflow_secure_ml.triggers.key_rotated import KeyRotatedTrigger


# The order matters: BaseSensorOperator's constructor calls the next one.
class KeyRotatedSensor(BaseSensorOperator, KeyOperator):
    """Wait for a new version of a key; returns `{"key": name, "version": number}`.

    Looking needs the right to read the key's versions, and no right to use it.

    Args:
        key: The key's name.
        newer_than: A version's number, or a time with its zone (a datetime or ISO 8601). None:
            newer than the one that the sensor finds at its first look; not with
            `mode="reschedule"`, where each look is the first one.
        deferrable: Wait in the triggerer, without a worker's slot.
        poke_interval: Seconds between two looks.
    """

    template_fields: Sequence[str] = ("key", "newer_than")

    def __init__(
        self,
        *,
        key: str,
        newer_than: int | str | datetime | None = None,
        deferrable: bool = True,
        poke_interval: timedelta | float = 60,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.key, self.newer_than, self.deferrable = key, newer_than, deferrable
        self._first: int | None = None
        if newer_than is None and not deferrable and self.mode == "reschedule":
            raise ConfigurationError(
                f"task {self.task_id!r}: mode='reschedule' looks for the first time each time; "
                "give newer_than, or set deferrable=True"
            )

    def execute(self, context: Any) -> Any:
        """Wait in the triggerer, or here."""
        if not self.deferrable:
            return super().execute(context)
        return self.execute_complete(context, newer_than=None)

    def execute_complete(
        self, context: Any, event: Any = None, newer_than: int | None = None
    ) -> dict[str, Any]:
        """Look, and go on waiting should it not be there.

        Args:
            context: Airflow's.
            event: The trigger's; it says nothing.
            newer_than: What the first look found, where the author named no bound.
        """
        bound, found = self._look(context, newer_than)
        if found is None:
            self.defer(
                trigger=KeyRotatedTrigger(
                    key=self.key,
                    newer_than=bound if isinstance(bound, int) else bound.isoformat(),
                    poke_interval=self.poke_interval,
                ),
                method_name="execute_complete",
                kwargs={"newer_than": bound} if self.newer_than is None else None,
                timeout=timedelta(seconds=self.timeout),
            )
        return self._seen(context, found)

    def poke(self, context: Any) -> PokeReturnValue:
        """Look once."""
        bound, found = self._look(context, self._first)
        if found is None:
            if self.newer_than is None and isinstance(bound, int):
                self._first = bound
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._seen(context, found))

    def _look(self, context: Any, first: int | None) -> tuple[Bound, int | None]:
        """What it waits beyond, and the version beyond it, if there is one."""
        try:
            versions = deployment().keys.versions(key_name(self.key))
            given = first if self.newer_than is None else self.newer_than
            bound = versions[-1].number if given is None else parse_bound(given)
        except ServiceUnavailableError as error:
            with surfacing():
                raise error
        except SecureMLError as error:
            # No look is recorded, but that there will be none is.
            with self.acting(context):
                raise error
        found = newer_version(versions, bound)
        return bound, None if found is None else found.number

    def _seen(self, context: Any, number: int) -> dict[str, Any]:
        with self.acting(context) as (_, work):
            work.journal.tell(f"{self.key}: its newest version is {number}")
            return {"key": self.key, "version": number}

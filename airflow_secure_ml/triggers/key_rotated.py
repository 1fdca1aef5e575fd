"""Wait in the triggerer until a key has a newer version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from airflow_secure_ml.services.key_watching import newer_version, parse_bound


class KeyRotatedTrigger(BaseTrigger):
    """Fire when the task should look again: it says no more than that.

    Args:
        key: The key's name.
        newer_than: A version's number, or a time as ISO 8601 writes it.
        poke_interval: Seconds between two looks.
    """

    def __init__(self, *, key: str, newer_than: int | str, poke_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's own
        self.key, self.newer_than, self.poke_interval = key, newer_than, poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where this class is, and its arguments: names and numbers alone."""
        kwargs = {
            "key": self.key,
            "newer_than": self.newer_than,
            "poke_interval": self.poke_interval,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, wait, look again; asking the key system happens in a thread."""
        while not await asyncio.to_thread(self._look):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent({"look": "again"})  # type: ignore[no-untyped-call] # Airflow's own

    def _look(self) -> bool:
        try:
            versions = deployment().keys.versions(self.key)
            return newer_version(versions, parse_bound(self.newer_than)) is not None
        except ServiceUnavailableError as error:
            self.log.warning("%s; looking again in %.0f s", error, self.poke_interval)
            return False
        except SecureMLError:
            # The task meets it too, and records it.
            return True

"""A leased secret does not leave the body through what Airflow stores of a task.

That is: what is returned or pushed to XCom, what a paused task takes along, what another DAG's run
is given, what an asset's event says. Logs are masked instead; code that sends a secret elsewhere
by itself is not stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

from airflow_secure_ml.core.secret_search import holds_secret
from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.securing.surface import surfaced

_lent: list[str] = []


def also_keep(secrets: Collection[str]) -> None:
    """Count texts that the body came by while it ran among its secrets."""
    _lent.extend(secrets)


class Guarded:
    """The secrets of one body, of which a process runs one at a time.

    Args:
        secrets: Texts that nobody may see, from the beginning.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._given = secrets
        self._refusal: BaseException | None = None
        _lent.clear()

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (*self._given, *_lent)

    @contextlib.contextmanager
    def pushing(self, ti: Any) -> Iterator[None]:
        """For the time of the body, refuse a secret that it pushes to XCom."""
        push = ti.xcom_push

        def xcom_push(key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                self.check("pushed", value)
            except PolicyError as error:
                # It comes out of the body like an exception of its own, which would be retried.
                self._refusal = surfaced(error)
                raise self._refusal from None
            return push(key, value, *args, **kwargs)

        # Past the model's own check of names: it is a method that is put there, no field.
        object.__setattr__(ti, "xcom_push", xcom_push)
        try:
            yield
        finally:
            object.__delattr__(ti, "xcom_push")

    def refused(self, error: BaseException) -> bool:
        """Whether an exception of the body is a refusal of ours that it let pass."""
        return error is self._refusal

    def check(self, did: str, value: Any) -> None:
        """Return if a value holds no secret.

        Raises:
            PolicyError: It does (rule_denied); `did` says what the body did with it.
        """
        if self._secrets and holds_secret(value, self._secrets):
            raise PolicyError(
                f"the body {did} a leased secret or a lent key, and Airflow would store it in its "
                "database; pass the name of what it opens, and lease it in the task that needs it",
                why="rule_denied",
            )

    def check_left(self, error: BaseException) -> None:
        """Check what Airflow stores of an exception by which a body pauses or starts a run.

        Raises:
            PolicyError: As in `check`.
        """
        if not self._secrets or not _is_stored(error):
            return
        stored = dict(vars(error))
        trigger = stored.pop("trigger", None)
        if trigger is not None:
            _, stored["trigger"] = trigger.serialize()
        self.check("left with", stored)

    def check_announced(self, context: Any) -> None:
        """Check the events of assets; PolicyError as in `check`."""
        self.check("announced", context.get("outlet_events"))


def _is_stored(error: BaseException) -> bool:
    from airflow.sdk.exceptions import DagRunTriggerException, TaskAwaitingInput, TaskDeferred

    return isinstance(error, (TaskDeferred, TaskAwaitingInput, DagRunTriggerException))

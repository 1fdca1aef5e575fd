"""What Airflow sees of our errors: a refusal is not retried, an unavailable system is.

Source: ARCHITECTURE, Errors; SECURE_TASK, "No retry".
"""

from __future__ import annotations

import functools
from typing import Any, cast

from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError, rebuild


def surfaced(error: SecureMLError) -> SecureMLError:
    """The same error, as a class that is also AirflowFailException unless a retry may help."""
    if isinstance(error, ServiceUnavailableError) or _is_final(type(error)):
        return error
    return rebuild(_final(cast("Any", type(error))), error.args, error.__dict__)


def _is_final(cls: type) -> bool:
    from airflow.sdk.exceptions import AirflowFailException

    return issubclass(cls, AirflowFailException)


@functools.cache
def _final(cls: Any) -> Any:
    from airflow.sdk.exceptions import AirflowFailException

    # A class made here has no import path: an instance is pickled as what it was made from.
    namespace = {"__module__": cls.__module__, "__reduce__": _reduce}
    return type(cls.__name__, (cls, AirflowFailException), namespace)


def _reduce(self: SecureMLError) -> tuple[Any, ...]:
    return (_resurface, (type(self).__mro__[1], self.args, self.__dict__.copy()))


def _resurface(cls: Any, args: tuple[Any, ...], state: dict[str, Any]) -> SecureMLError:
    return surfaced(rebuild(cls, args, state))

"""Import an optional library, or say which extra brings it.

Every third-party import that is not a dependency of the package goes through here, inside the
function that needs it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from airflow_secure_ml.errors import MissingExtraError


def import_extra(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which the extra `extra` of this package installs.

    Raises:
        MissingExtraError: It is not installed; the message holds the pip line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{module} is not installed; pip install 'airflow-secure-ml[{extra}]'"
        ) from error

"""Secures machine-learning pipelines in Apache Airflow.

Importing this package imports nothing else; each public name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_secure_ml.errors import SecureMLError
    from airflow_secure_ml.securing.opening import open_artifact
    from airflow_secure_ml.securing.options import Lease, Reads, Reference, Writes
    from airflow_secure_ml.securing.wrapping import secure
    from airflow_secure_ml.services.credential import Credential

__version__ = "0.1.0"
__all__ = [
    "Credential",
    "Lease",
    "Reads",
    "Reference",
    "SecureMLError",
    "Writes",
    "open_artifact",
    "secure",
]

_HOMES = {
    "Credential": "services.credential",
    "Lease": "securing.options",
    "Reads": "securing.options",
    "Reference": "securing.options",
    "SecureMLError": "errors",
    "Writes": "securing.options",
    "open_artifact": "securing.opening",
    "secure": "securing.wrapping",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""A witness on a host of its own: its key, its memory, its door.

Nothing here needs a log, Airflow or [secure_ml]: a second host has none of them.
"""

from airflow_secure_ml.adapters.witness.door import Door
from airflow_secure_ml.adapters.witness.files import (
    KEY_FILE,
    LOGS_FILE,
    WitnessKey,
    init_witness,
    read_logs,
    read_witness_key,
)
from airflow_secure_ml.adapters.witness.memory import SqliteMemory

__all__ = [
    "KEY_FILE",
    "LOGS_FILE",
    "Door",
    "SqliteMemory",
    "WitnessKey",
    "init_witness",
    "read_logs",
    "read_witness_key",
]

"""A log's signing key, and the record of the last checkpoint it signed.

Here is what touches a log's private key or `last`; who asks for a signature knows neither.
"""

from airflow_secure_ml.adapters.log_signer.files import (
    KEY_FILE,
    LAST_FILE,
    PUBLIC_FILE,
    read_log_keys,
)
from airflow_secure_ml.adapters.log_signer.key_file import init_log
from airflow_secure_ml.adapters.log_signer.signer import LogSigner, read_last_note

__all__ = [
    "KEY_FILE",
    "LAST_FILE",
    "PUBLIC_FILE",
    "LogSigner",
    "init_log",
    "read_last_note",
    "read_log_keys",
]

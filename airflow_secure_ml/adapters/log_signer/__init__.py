"""A log's signing keys, and the record of the last checkpoint they signed.

Here is what touches a log's private keys or `last`; who asks for a signature knows neither.
"""

from airflow_secure_ml.adapters.log_signer.client import SocketSigner
from airflow_secure_ml.adapters.log_signer.directory import init_log, prepare_successors
from airflow_secure_ml.adapters.log_signer.files import (
    KEY_FILE,
    LAST_FILE,
    PUBLIC_FILE,
    read_log_keys,
)
from airflow_secure_ml.adapters.log_signer.key_file import KeyElsewhere
from airflow_secure_ml.adapters.log_signer.signer import LogSigner, read_last_note

__all__ = [
    "KEY_FILE",
    "LAST_FILE",
    "PUBLIC_FILE",
    "KeyElsewhere",
    "LogSigner",
    "SocketSigner",
    "init_log",
    "prepare_successors",
    "read_last_note",
    "read_log_keys",
]

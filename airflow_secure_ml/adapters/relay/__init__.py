"""What the relay touches besides servers: its book, its lock, its own process, its emitters."""

from airflow_secure_ml.adapters.relay.book import BOOK_FILE, SqliteBook
from airflow_secure_ml.adapters.relay.process import RelayLock, ensure_relay
from airflow_secure_ml.adapters.relay.recording import AlertRecorder

__all__ = ["BOOK_FILE", "AlertRecorder", "RelayLock", "SqliteBook", "ensure_relay"]

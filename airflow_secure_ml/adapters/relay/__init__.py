"""What the relay touches besides servers: its book, its lock, its own process."""

from airflow_secure_ml.adapters.relay.book import BOOK_FILE, SqliteBook
from airflow_secure_ml.adapters.relay.process import RelayLock, ensure_relay

__all__ = ["BOOK_FILE", "RelayLock", "SqliteBook", "ensure_relay"]

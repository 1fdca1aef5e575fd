"""Time stamps of an authority; `rfc3161-client` comes with the extra `timestamps`."""

from airflow_secure_ml.adapters.timestamps.stamping import AuthorityStamper

__all__ = ["AuthorityStamper"]

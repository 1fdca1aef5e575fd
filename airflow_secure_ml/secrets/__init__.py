"""The secrets back end over Vault; Airflow loads it by `[secrets] backend`.

Airflow loads it while it reads its own configuration, so nothing of Airflow is imported here but
the base class, and nothing is read or connected before the first look-up.
"""

from airflow_secure_ml.secrets.backend import VaultBackend

__all__ = ["VaultBackend"]

"""The XCom back end that seals values; Airflow loads it by `[core] xcom_backend`.

Here is what Airflow calls. What a value is bound to is `core.sealed_xcom`'s business, keys and
bytes are `services.sealed_values`'. `xcom.object_storage` needs another provider, and is imported
only by who names it.
"""

from airflow_secure_ml.xcom.backend import SealedXComBackend

__all__ = ["SealedXComBackend"]

"""Arrow's side of Parquet: its schema in a footer, and its reader with keys that were lent.

pyarrow is imported nowhere else. Encrypting needs none of it.
"""

from airflow_secure_ml.adapters.parquet.arrow import arrow_fields, decryption_properties

__all__ = ["arrow_fields", "decryption_properties"]

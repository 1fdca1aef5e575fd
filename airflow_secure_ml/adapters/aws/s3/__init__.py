"""ObjectStore over S3: written in parts, published by one conditional request, read as pinned.

`store.py` is the port; `writer.py`, `multipart.py` and `publishing.py` how bytes get there;
`pinned.py` and `read_ahead.py` how they come back; `terms.py` what is asked besides.
"""

from __future__ import annotations

from airflow_secure_ml.adapters.aws.s3.store import S3Objects
from airflow_secure_ml.adapters.aws.s3.terms import Asked

__all__ = ["Asked", "S3Objects"]

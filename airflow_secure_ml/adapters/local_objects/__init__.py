"""ObjectStore over a machine's own files: written aside, made durable, then given their name.

`store.py` is the port; `address.py` what an address is; `pinned.py` reading; `writers.py` and
`aside.py` how nothing half-written ever has a final name. Sealing is `services.sealing`'s.
"""

from __future__ import annotations

from airflow_secure_ml.adapters.local_objects.store import LocalObjects

__all__ = ["LocalObjects"]

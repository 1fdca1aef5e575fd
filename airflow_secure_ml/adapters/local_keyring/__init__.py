"""KeySystem over one private file, the embedded default.

`keyring.py` is the port and what the command line does; `keyfile.py` reads and changes the file.
What a key may be used for is `core.keyring`'s part.
"""

from __future__ import annotations

from airflow_secure_ml.adapters.local_keyring.keyring import LocalKeyring

__all__ = ["LocalKeyring"]

"""Requests to servers that only ever get what is public: checkpoints and digests of them.

No credential is sent from here, and nothing an answer says is believed: whoever asked verifies it.
"""

from airflow_secure_ml.adapters.outgoing.posting import HttpPoster

__all__ = ["HttpPoster"]

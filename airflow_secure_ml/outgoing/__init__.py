"""Requests to servers outside: bounded in time and bytes, by TLS, never redirected.

Which server, with what token, and what an answer is worth, whoever asks decides: nothing an answer
says is believed here.
"""

from airflow_secure_ml.outgoing.connecting import DEADLINE_S, TIMEOUT_S, connected, context_of
from airflow_secure_ml.outgoing.posting import MAX_ANSWER_BYTES, HttpPoster, exchange

__all__ = [
    "DEADLINE_S",
    "MAX_ANSWER_BYTES",
    "TIMEOUT_S",
    "HttpPoster",
    "connected",
    "context_of",
    "exchange",
]

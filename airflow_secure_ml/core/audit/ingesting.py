"""What goes over HTTP to an ingest end point: one emitter's frames, and the word for durable.

Source: AUDIT_TRAIL, Spool, bytes.
"""

from __future__ import annotations

from typing import Final

# Of a request; many of them wait in memory at once.
MAX_BODY_BYTES: Final = 1 << 20
TOKEN_BYTES: Final = 32
MEDIA_TYPE: Final = "application/vnd.asml.frames"
EMITTER_HEADER: Final = "X-Asml-Emitter"
# A page that some proxy answers in its place is not it.
DURABLE: Final = b"durable\n"

# Below `audit_dir`: where the end point lays what it took.
INGESTED_DIRECTORY: Final = "ingested"

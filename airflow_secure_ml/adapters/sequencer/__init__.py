"""What the sequencer touches besides its log: locks, spool segments, its own process.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

from airflow_secure_ml.adapters.sequencer.process import (
    SequencerLock,
    ensure_sequencer,
    sequencer_pid,
    stop_sequencer,
)
from airflow_secure_ml.adapters.sequencer.segments import SpoolSegments

__all__ = [
    "SequencerLock",
    "SpoolSegments",
    "ensure_sequencer",
    "sequencer_pid",
    "stop_sequencer",
]

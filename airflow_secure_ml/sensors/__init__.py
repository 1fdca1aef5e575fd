"""The sensors of this package."""

from __future__ import annotations

from airflow_secure_ml.sensors.key_rotated import KeyRotatedSensor
from airflow_secure_ml.sensors.signed_artifact import SignedArtifactSensor

__all__ = ["KeyRotatedSensor", "SignedArtifactSensor"]

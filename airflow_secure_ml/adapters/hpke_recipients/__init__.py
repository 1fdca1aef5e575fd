"""KeySystem over one public key that stands in the settings; it seals and nothing else."""

from __future__ import annotations

from airflow_secure_ml.adapters.hpke_recipients.recipients import HpkeRecipients

__all__ = ["HpkeRecipients"]

"""Operators: one class a verb, all fields templated, each returns a Reference (Decrypt: None)."""

from __future__ import annotations

from airflow_secure_ml.operators.artifacts import SignArtifactOperator, VerifyArtifactOperator
from airflow_secure_ml.operators.datasets import ValidateDatasetOperator
from airflow_secure_ml.operators.files import DecryptFileOperator, EncryptFileOperator

__all__ = [
    "DecryptFileOperator",
    "EncryptFileOperator",
    "SignArtifactOperator",
    "ValidateDatasetOperator",
    "VerifyArtifactOperator",
]

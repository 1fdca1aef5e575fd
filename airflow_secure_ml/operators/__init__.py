"""Operators: one class a verb, all fields templated, each returns a Reference (Decrypt: None).

Those that rotate keys return what they counted.
"""

from __future__ import annotations

from airflow_secure_ml.operators.artifacts import SignArtifactOperator, VerifyArtifactOperator
from airflow_secure_ml.operators.datasets import ValidateDatasetOperator
from airflow_secure_ml.operators.erasure import FindExpiredOperator, ShredDataSetOperator
from airflow_secure_ml.operators.files import DecryptFileOperator, EncryptFileOperator
from airflow_secure_ml.operators.keys import (
    FindSealedOperator,
    KeyUsageOperator,
    RewrapArtifactOperator,
    RotateKeyOperator,
)
from airflow_secure_ml.operators.reports import SecurityReportOperator
from airflow_secure_ml.operators.resealing import CryptoUsageOperator, ResealArtifactOperator

__all__ = [
    "CryptoUsageOperator",
    "DecryptFileOperator",
    "EncryptFileOperator",
    "FindExpiredOperator",
    "FindSealedOperator",
    "KeyUsageOperator",
    "ResealArtifactOperator",
    "RewrapArtifactOperator",
    "RotateKeyOperator",
    "SecurityReportOperator",
    "ShredDataSetOperator",
    "SignArtifactOperator",
    "ValidateDatasetOperator",
    "VerifyArtifactOperator",
]

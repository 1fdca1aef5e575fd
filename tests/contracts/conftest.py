from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.testing.ports import MemoryKeySystem, MemoryObjects


@pytest.fixture(params=["local", "memory"])
def store(request):
    return LocalObjects() if request.param == "local" else MemoryObjects()


@pytest.fixture(params=["local", "memory"])
def keys(request, tmp_path):
    if request.param == "memory":
        return MemoryKeySystem()
    keyring = LocalKeyring(tmp_path / "secure_ml" / "keyring.json")
    keyring.init()
    return keyring

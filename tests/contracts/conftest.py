from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.testing.ports import MemoryKeySystem, MemoryObjects


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def store(request):
    if request.param == "s3":
        client = request.getfixturevalue("s3").client()
        return S3Objects(lambda bucket: client)
    return LocalObjects() if request.param == "local" else MemoryObjects()


@pytest.fixture
def base(request, store, tmp_path):
    """What addresses of the store begin with: a folder or a bucket of the test's own."""
    if isinstance(store, S3Objects):
        return "s3://" + request.getfixturevalue("s3").new_bucket(versioned=True)
    return str(tmp_path)


@pytest.fixture(params=["local", "memory"])
def keys(request, tmp_path):
    if request.param == "memory":
        return MemoryKeySystem()
    keyring = LocalKeyring(tmp_path / "secure_ml" / "keyring.json")
    keyring.init()
    return keyring

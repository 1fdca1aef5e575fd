from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secure_ml" / "keyring.json"


@pytest.fixture
def keyring(path):
    def random_bytes(count):
        random_bytes.calls += 1
        return bytes([random_bytes.calls]) * count

    random_bytes.calls = 0
    keyring = LocalKeyring(
        path, now=lambda: datetime(2026, 11, 22, 3, tzinfo=UTC), random_bytes=random_bytes
    )
    keyring.init()
    return keyring

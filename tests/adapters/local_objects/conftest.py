from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects


@pytest.fixture
def store():
    return LocalObjects()


@pytest.fixture
def put(store):
    def put(uri, data, *, replace=False):
        with store.create(uri) as writer:
            writer.write_at(0, data)
            return writer.commit(replace=replace)

    return put


@pytest.fixture
def get(store):
    def get(uri):
        with store.open(uri) as pinned:
            return pinned.read_at(0, pinned.size_bytes)

    return get

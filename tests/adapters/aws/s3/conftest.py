from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects


@pytest.fixture(params=["versioned", "plain"])
def bucket(request, s3):
    return s3.new_bucket(versioned=request.param == "versioned")


@pytest.fixture
def client(s3):
    return s3.client()


@pytest.fixture
def store(client):
    return S3Objects(lambda bucket: client)


@pytest.fixture
def put(store):
    def put(uri, data, *, replace=False, if_version=None):
        with store.create(uri) as writer:
            writer.write_at(0, data)
            return writer.commit(replace=replace, if_version=if_version)

    return put


@pytest.fixture
def get(store):
    def get(uri):
        with store.open(uri) as pinned:
            return pinned.read_at(0, pinned.size_bytes)

    return get


@pytest.fixture
def requests(client):
    """The name of every request that `client` made."""
    made = []

    def note(model, **kwargs):
        made.append(model.name)

    client.meta.events.register("before-call.s3", note)
    return made

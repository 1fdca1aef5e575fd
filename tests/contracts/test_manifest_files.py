"""Manifests beside statements, in each store."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import SignatureError
from airflow_secure_ml.services.manifest_files import keep_manifest, read_manifest
from airflow_secure_ml.services.statement_files import (
    find_statements,
    read_statements,
    sign_artifact,
    signed_manifest,
)
from tests.signing_keys import PIPELINE


def manifest_of(text: str) -> Manifest:
    digest = Digest(algorithm="sha256", hex="0" * 64)
    return Manifest.of(
        Entry(path=f"{text}-{number}", size_bytes=number, digest=digest) for number in range(50)
    )


def put(store, uri, data, *, replace):
    with store.create(uri) as writer:
        writer.write_at(0, data)
        writer.commit(replace=replace)


def test_what_was_signed_comes_back_from_beside_its_statement(store, base):
    uri, manifest = store.canonical(f"{base}/set"), manifest_of("part")
    for signed_ms in (1, 2):
        said = Statement(object=uri, manifest=manifest, act="write", signed_ms=signed_ms)
        sign_artifact(store, said, PIPELINE)

    names = find_statements(store, uri)
    held = read_statements(store, names, [PIPELINE]).held

    assert [each.statement.signed_ms for each in held] == [1, 2]
    assert [each.manifest for each in held] == [None, None]
    assert [signed_manifest(store, each) for each in held] == [manifest, manifest]
    assert len(list(store.walk(f"{uri}.sig"))) == 3


def test_a_missing_manifest_does_not_count(store, base):
    folder = store.canonical(f"{base}/set.sig")

    with pytest.raises(SignatureError, match="missing"):
        read_manifest(store, folder, manifest_of("part").commitment)


@pytest.mark.parametrize("planted", ["none", "part"], ids=["same length", "other length"])
def test_a_planted_manifest_does_not_count_and_is_put_right(store, base, planted):
    folder, manifest = store.canonical(f"{base}/set.sig"), manifest_of("full")
    name = f"{folder}/{manifest.digest.replace(':', '-')}.manifest"
    other = manifest_of(planted).canonical
    put(store, name, other if planted == "none" else other + b" ", replace=False)
    with pytest.raises(SignatureError, match="signed"):
        read_manifest(store, folder, manifest.commitment)

    keep_manifest(store, folder, manifest)

    assert read_manifest(store, folder, manifest.commitment) == manifest

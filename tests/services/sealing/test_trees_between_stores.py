"""Folders go to a real bucket, from it, and between two; interrupted, they go on."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.inspecting import inspect_below
from airflow_secure_ml.services.opening_below import OpeningBelow, OpeningKeys
from airflow_secure_ml.services.sealed_dataset import DataSetRoot
from airflow_secure_ml.services.sealing_below import SealingBelow, SealingKeys
from airflow_secure_ml.services.signing import Demand, statements_for, verify_artifact
from airflow_secure_ml.services.tree_work import Tree
from airflow_secure_ml.testing.ports import MemoryKeySystem

FILES = {
    "a.csv": b"alice",
    "deep/empty": b"",
    "deep/größe 100% #1.csv": b"\x00" * 70_000,
    "two-segments.bin": bytes(range(256)) * 5000,
}


class Lakes:
    """Local folders and a bucket."""

    def __init__(self, path, bucket, client):
        self.local, self.s3 = LocalObjects(), S3Objects(lambda name: client)
        self.path, self.bucket, self.keys = path, bucket, MemoryKeySystem()
        self.verifiers = self.keys.verifiers({"pipeline"})

    def tree(self, where, name):
        if where == "files":
            return Tree(store=self.local, uri=self.local.canonical(str(self.path / name)))
        return Tree(store=self.s3, uri=self.s3.canonical(f"s3://{self.bucket}/{name}"))

    def put(self, tree, files=FILES):
        for name, data in files.items():
            with tree.store.create(tree.child(name)) as writer:
                writer.write_at(0, data)
                writer.commit(replace=True)

    def get(self, tree):
        found = {}
        for name in tree.store.walk(tree.uri):
            with tree.store.open(tree.child(name)) as pinned:
                found[name] = pinned.read_at(0, pinned.size_bytes)
        return found

    def seal(self, source, target, pace=None):
        keys = SealingKeys(
            system=self.keys,
            names=("data",),
            signer=self.keys.signer("pipeline"),
            verifiers=self.verifiers,
        )
        work = SealingBelow(source, target, keys=keys, context={}, threads=2, pace=pace)
        tally = work.run()
        assert tally.failures == []
        work.sign(1)
        return tally

    def open(self, source, target, pace=None):
        said = statements_for(source.store, source.uri, Demand(verifiers=self.verifiers))
        unwrappers = self.keys.unwrappers()
        readers = [*unwrappers, DataSetRoot(source.store, source.uri, keys=unwrappers)]
        keys = OpeningKeys(readers=readers, state_of=None, expect={}, original=source)
        tally = OpeningBelow(
            source,
            target,
            keys=keys,
            said=said.manifest,
            threads=2,
            pace=pace,
        ).run()
        assert tally.failures == []
        return tally


@pytest.fixture(params=["versioned", "plain"])
def lakes(request, s3, tmp_path):
    bucket = s3.new_bucket(versioned=request.param == "versioned")
    return Lakes(tmp_path, bucket, s3.client())


@pytest.mark.parametrize("plain", ["files", "bucket"])
def test_a_folder_is_sealed_into_a_bucket_and_comes_back(lakes, plain):
    source, sealed = lakes.tree(plain, "in"), lakes.tree("bucket", "sealed")
    back = lakes.tree(plain, "back")
    lakes.put(source)

    assert lakes.seal(source, sealed).done == 4
    verify_artifact(sealed.store, sealed.uri, Demand(verifiers=lakes.verifiers))
    assert lakes.open(sealed, back).done == 4

    assert lakes.get(back) == FILES
    seen = inspect_below(sealed.store, sealed.uri, threads=8)
    assert (seen.sealed, seen.data_set_keys, seen.signed, seen.broken) == (4, 1, 4, 0)


def test_a_bucket_is_sealed_into_files(lakes):
    source, sealed = lakes.tree("bucket", "in"), lakes.tree("files", "sealed")
    lakes.put(source)

    lakes.seal(source, sealed)
    lakes.open(sealed, lakes.tree("bucket", "back"))

    assert lakes.get(lakes.tree("bucket", "back")) == FILES


class Interrupted(BaseException):
    """Nobody handles it."""


def after(files):
    def pace(done, size):
        if done == files:
            raise Interrupted

    return pace


@pytest.mark.parametrize("files", [0, 2])
def test_interrupted_on_the_way_it_goes_on_with_what_is_left(lakes, files):
    source, sealed = lakes.tree("files", "in"), lakes.tree("bucket", "sealed")
    back = lakes.tree("bucket", "back")
    lakes.put(source)

    with pytest.raises(Interrupted):
        lakes.seal(source, sealed, pace=after(files))
    tally = lakes.seal(source, sealed)
    assert tally.already >= files
    assert tally.already + tally.done == 4
    verify_artifact(sealed.store, sealed.uri, Demand(verifiers=lakes.verifiers))
    with pytest.raises(Interrupted):
        lakes.open(sealed, back, pace=after(files))
    tally = lakes.open(sealed, back)
    assert tally.already >= files
    assert lakes.get(back) == FILES


def test_done_once_it_is_done(lakes):
    source, sealed = lakes.tree("bucket", "in"), lakes.tree("bucket", "sealed")
    lakes.put(source)
    lakes.seal(source, sealed)

    assert (lakes.seal(source, sealed).already, lakes.seal(source, sealed).done) == (4, 0)
    lakes.put(source, {"a.csv": b"alice, older"})
    assert lakes.seal(source, sealed).done == 1
    lakes.open(sealed, lakes.tree("files", "back"))
    assert lakes.get(lakes.tree("files", "back"))["a.csv"] == b"alice, older"


def test_what_somebody_else_put_there_stops_it(lakes):
    source, sealed = lakes.tree("files", "in"), lakes.tree("bucket", "sealed")
    lakes.put(source)
    lakes.put(sealed, {"a.csv": b"theirs"})

    with pytest.raises(PolicyError) as refused:
        lakes.seal(source, sealed)

    assert refused.value.why == "address_taken"
    assert lakes.get(sealed) == {"a.csv": b"theirs"}

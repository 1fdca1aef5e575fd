"""Sealing into memory, with keys that are literals."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.services.sealing import open_object, seal_object
from airflow_secure_ml.testing.memory_objects import MemoryObjects

TESTS = Path(__file__).parents[2]
CONTEXT = {"dataset": "d1", "path": "a/b"}


def make_kek(slot_id="team/3", key=None):
    name, _, version = slot_id.partition("/")
    ref = KeyRef(system="local", name=name, version=version)
    return KekWrapper(bytes(range(32)) if key is None else key, slot_id=slot_id, ref=ref)


class Bench:
    """Seals bytes and opens them again through the services."""

    def __init__(self):
        self.store = MemoryObjects()
        self.uri = "file:///data/object"
        self.kek = make_kek()
        self.context = CONTEXT

    def put(self, data, uri=None):
        self.store.put(uri or self.uri, bytes(data))
        return self.store.open(uri or self.uri)

    def seal(self, plaintext, *, keys=None, context=None, **more):
        """The sealed bytes."""
        source = io.BytesIO(plaintext) if isinstance(plaintext, bytes) else plaintext
        if isinstance(plaintext, bytes):
            more.setdefault("plaintext_bytes", len(plaintext))
        with self.store.create("file:///data/sealed") as writer:
            self.sealed = seal_object(
                source,
                writer,
                keys=[self.kek] if keys is None else keys,
                context=CONTEXT if context is None else context,
                **more,
            )
            writer.commit(replace=True)
        return self.store.objects["file:///data/sealed"]

    def open(self, data, *, keys=None, expect=None, **more):
        """The plaintext of sealed bytes."""
        with self.store.create("file:///data/opened") as writer:
            self.opened = open_object(
                self.put(data),
                writer,
                keys=[self.kek] if keys is None else keys,
                expect=CONTEXT if expect is None else expect,
                **more,
            )
            writer.commit(replace=True)
        return self.store.objects["file:///data/opened"]


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def kek():
    return make_kek


@pytest.fixture(scope="session")
def reference():
    path = TESTS / "core" / "sealed_file" / "reference.py"
    spec = importlib.util.spec_from_file_location("sealed_file_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def pattern():
    def pattern(length):
        return (bytes(range(251)) * (length // 251 + 1))[:length]

    return pattern

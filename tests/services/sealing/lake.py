"""A folder of sealed files for tests of what is done to many of them."""

from __future__ import annotations

import io
import os

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.header import MAGIC, decode_header
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.key_rotation import retire_unused
from airflow_secure_ml.services.key_usage import count_usage
from airflow_secure_ml.services.rewrapping_below import rewrap_below
from airflow_secure_ml.services.sealed_dataset import DataSetRoot, create_dataset_key
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.testing.ports import MemoryAudit, MemoryObjects


class Lake:
    """A folder of sealed files, the keys to them, and the trail of what is done to them."""

    def __init__(self, root, keys):
        self.root, self.keys = root, keys
        self.store = LocalObjects()
        self.audit = MemoryAudit()

    def uri(self, name=""):
        return self.store.canonical(str(self.root / name))

    def seal(self, name, *, keys=None, data=b"hello"):
        """Seal a file; written without the store, which would sync each."""
        memory = MemoryObjects()
        with memory.create("file:///x") as writer:
            seal_object(
                io.BytesIO(data),
                writer,
                keys=keys or [self.keys.wrapper("data")],
                context={"dataset": "d1"},
                plaintext_bytes=len(data),
            )
            writer.commit(replace=True)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(memory.objects["file:///x"])
        return path

    def data_set(self, name, files):
        """A data set of some files under a key of its own."""
        (self.root / name).mkdir(parents=True)
        key = create_dataset_key(
            self.store,
            self.uri(name),
            keys=[self.keys.wrapper("data")],
            context={"dataset": "d1"},
        )
        for number in range(files):
            self.seal(f"{name}/{number % 100:02}/{number}.bin", keys=[key])
        (header,) = (self.root / name / "_asml").iterdir()
        return header

    def rewrap(self, path="", *, name="data", store=None):
        trail = Journal(self.audit, None, lambda line: None)
        return rewrap_below(
            store or self.store, self.uri(path), keys=self.keys, name=name, trail=trail
        )

    def usage(self, *paths, name="data"):
        uris = [self.uri(path) for path in paths or ("",)]
        return count_usage(lambda uri: self.store, uris, keys=self.keys, name=name)

    def retire(self, *paths, name="data", count=None):
        trail = Journal(self.audit, None, lambda line: None)
        return retire_unused(
            self.keys, name, count or (lambda: self.usage(*paths, name=name)), trail
        )

    def read(self, name, root=None):
        keys = self.keys.unwrappers()
        if root is not None:
            keys = [DataSetRoot(self.store, self.uri(root), keys=keys)]
        with self.store.open(self.uri(name)) as pinned:
            return SealedReader(pinned, keys=keys, expect=ANY_CONTEXT).read()

    def versions(self):
        """By name, the versions of the key that open each file."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            data = path.read_bytes() if path.is_file() else b""
            if data.startswith(MAGIC):
                header = decode_header(data, object_bytes=len(data))
                numbers = [self.keys.version_in("data", slot) for slot in header.slots]
                found[str(path.relative_to(self.root))] = [n for n in numbers if n is not None]
        return found

    def outcomes(self, act="object.rewrap"):
        return [
            (fact.result, fact.why)
            for fact in self.audit.facts
            if (fact.act, fact.phase) == (act, "outcome")
        ]


def states(root):
    """What tells of each file whether it was touched."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (
                status.st_ino,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
    return found

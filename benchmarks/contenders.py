"""Seal one file with one tool, and print what that took: `contenders.py NAME SOURCE TARGET`.

Each runs in a process of its own. Its wall and CPU seconds are of the work alone, without the
interpreter's start and imports; its peak memory is read from outside.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1 << 20
KEY = bytes(range(32))
Work = Callable[[str, str], None]


class PlainWriter:
    """The least an ObjectWriter does: a file, its bytes, no fsync; as the others do it."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)

    def write_at(self, offset: int, data: memoryview) -> None:
        os.pwrite(self._descriptor, data, offset)

    def close(self) -> None:
        os.close(self._descriptor)


def kek() -> Any:
    from airflow_secure_ml.core.ports import KeyRef
    from airflow_secure_ml.core.sealed_file.keys import KekWrapper

    ref = KeyRef(system="local", name="data", version="1")
    return KekWrapper(KEY, slot_id="data/1", ref=ref)


def _seal(threads: int, digest: str | None) -> Work:
    from airflow_secure_ml.services.sealing import seal_object

    def work(source: str, target: str) -> None:
        seal_object(
            source,
            PlainWriter(target),  # type: ignore[arg-type] # what sealing needs of it
            keys=[kek()],
            context={"object": "bench"},
            threads=threads,
            digest_algorithm=digest,
        )

    return work


class _Zeros:
    """A stream of so many zeros: it costs nothing to make."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    def read(self, count: int) -> bytes:
        raise NotImplementedError

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._left)
        self._left -= count
        return count


class _Nowhere:
    """An ObjectWriter that keeps nothing."""

    def write_at(self, offset: int, data: memoryview) -> None:
        return None


def _sink() -> Work:
    """SOURCE is a number of MiB; with the digest that a statement needs."""
    from airflow_secure_ml.services.sealing import seal_object

    def work(source: str, target: str) -> None:
        seal_object(
            _Zeros(int(source) * MIB),  # type: ignore[arg-type] # what sealing needs of it
            _Nowhere(),  # type: ignore[arg-type] # the same
            keys=[kek()],
            context={"object": "bench"},
        )

    return work


def _secured() -> Work:
    """What `secure()` does with an output: seal, SHA-256, sign, fsync, rename."""
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.core.digest import Digest
    from airflow_secure_ml.core.manifest import Entry, Manifest
    from airflow_secure_ml.core.statement import Statement
    from airflow_secure_ml.services.sealing import seal_object
    from airflow_secure_ml.services.signing import sign_artifact
    from airflow_secure_ml.testing.ports import MemoryKeySystem

    def work(source: str, target: str) -> None:
        store, signer = LocalObjects(), MemoryKeySystem().signer("pipeline")
        uri = store.canonical(target)
        with store.create(uri) as writer:
            sealed = seal_object(source, writer, keys=[kek()], context={"object": uri})
            assert sealed.payload_digest is not None
            entry = Entry(
                path="",
                size_bytes=sealed.payload_bytes,
                digest=Digest.parse(sealed.payload_digest),
                core_id=sealed.core_id.hex(),
            )
            said = Statement(object=uri, manifest=Manifest.of([entry]), act="write", signed_ms=1)
            sign_artifact(store, said, signer)
            writer.commit(replace=True)

    return work


def _open() -> Work:
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
    from airflow_secure_ml.services.sealing import open_object

    def work(source: str, target: str) -> None:
        store = LocalObjects()
        with store.open(store.canonical(f"{source}.sealed")) as pinned:
            open_object(
                pinned,
                PlainWriter(target),  # type: ignore[arg-type] # what opening needs of it
                keys=[kek()],
                expect=ANY_CONTEXT,
                digest_algorithm=None,
            )

    return work


def _tink() -> Work:
    import tink  # type: ignore[import-untyped] # no stubs
    from tink import streaming_aead

    streaming_aead.register()
    template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    aead = tink.new_keyset_handle(template).primitive(streaming_aead.StreamingAead)

    def work(source: str, target: str) -> None:
        with (
            open(source, "rb") as plain,
            open(target, "wb") as sink,
            aead.new_encrypting_stream(sink, b"bench") as stream,
        ):
            while part := plain.read(MIB):
                stream.write(part)

    return work


def _aws_encryption_sdk() -> Work:
    import aws_encryption_sdk as sdk  # type: ignore[import-untyped] # no stubs
    from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm
    from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
    from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

    class Provider(RawMasterKeyProvider):  # type: ignore[misc] # an untyped package
        provider_id = "bench"

        def _get_raw_key(self, key_id: bytes) -> WrappingKey:
            return WrappingKey(
                wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
                wrapping_key=KEY,
                wrapping_key_type=EncryptionKeyType.SYMMETRIC,
            )

    provider = Provider()
    provider.add_master_key(b"data")
    # Its default: signed, committing, frames of 4 KiB.
    client = sdk.EncryptionSDKClient()

    def work(source: str, target: str) -> None:
        with (
            open(source, "rb") as plain,
            open(target, "wb") as sink,
            client.stream(mode="e", source=plain, key_provider=provider) as stream,
        ):
            while part := stream.read(MIB):
                sink.write(part)

    return work


def _fernet() -> Work:
    from cryptography.fernet import Fernet

    def work(source: str, target: str) -> None:
        sealer = Fernet(Fernet.generate_key())
        Path(target).write_bytes(sealer.encrypt(Path(source).read_bytes()))

    return work


CONTENDERS: dict[str, Callable[[], Work]] = {
    "seal1": lambda: _seal(1, None),
    "seal2": lambda: _seal(2, None),
    "seal2_sha256": lambda: _seal(2, "sha256"),
    "secured": _secured,
    "sink": _sink,
    "open2": _open,
    "tink": _tink,
    "aws": _aws_encryption_sdk,
    "fernet": _fernet,
}


def main() -> None:
    """One round; prints wall and CPU seconds as JSON. Without arguments: the contenders' names."""
    if len(sys.argv) == 1:
        print(*CONTENDERS)
        return
    name, source, target = sys.argv[1:]
    work = CONTENDERS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    work(source, target)
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()

"""Seal a file of 1 GiB beside the tools a user would pick instead: wall, CPU, peak memory.

    python benchmarks/sealing.py [--dir DIR] [--mib 1024] [--rounds 3] [--json FILE]

Each runs in a process of its own and the shortest of its rounds counts; an interpreter's start
and imports do not. Nobody waits for the disk, but for the row "and fsync". What is not installed is
left out and said so. Only ratios of one run mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
KEY = bytes(range(32))
Work = Callable[[str, str], None]


class PlainWriter:
    """The least an ObjectWriter does: a file, its bytes, no fsync."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)

    def write_at(self, offset: int, data: memoryview) -> None:
        os.pwrite(self._descriptor, data, offset)


def _kek():
    from airflow_secure_ml.core.ports import KeyRef
    from airflow_secure_ml.core.sealed_file.keys import KekWrapper

    ref = KeyRef(system="local", name="data", version="1")
    return KekWrapper(KEY, slot_id="data/1", ref=ref)


def sealing(threads: int, digest: str | None) -> Work:
    from airflow_secure_ml.services.sealing import seal_object

    def work(source: str, target: str) -> None:
        seal_object(
            source,
            PlainWriter(target),
            keys=[_kek()],
            context={"object": "bench"},
            threads=threads,
            digest_algorithm=digest,
        )

    return work


def seal_and_sign() -> Work:
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.core import dsse
    from airflow_secure_ml.services.sealing import seal_object
    from airflow_secure_ml.testing.ports import MemoryKeySystem

    def work(source: str, target: str) -> None:
        store, signer = LocalObjects(), MemoryKeySystem().signer("pipeline")
        with store.create(store.canonical(target)) as writer:
            context = {"object": "bench"}
            sealed = seal_object(source, writer, keys=[_kek()], context=context, threads=2)
            statement = {"core": sealed.core_id.hex(), "payload": sealed.payload_digest}
            dsse.sign(json.dumps(statement).encode(), [signer])
            writer.commit(replace=True)

    return work


def opening(threads: int) -> Work:
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
    from airflow_secure_ml.services.sealing import open_object

    def work(source: str, target: str) -> None:
        store, sealed = LocalObjects(), f"{source}.sealed"
        with store.open(store.canonical(sealed)) as obj:
            open_object(
                obj,
                PlainWriter(target),
                keys=[_kek()],
                expect=ANY_CONTEXT,
                threads=threads,
                digest_algorithm=None,
            )

    return work


def tink_streaming() -> Work:
    import tink
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


def aws_encryption_sdk() -> Work:
    import aws_encryption_sdk as sdk
    from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm
    from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
    from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

    class Provider(RawMasterKeyProvider):
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


def fernet() -> Work:
    from cryptography.fernet import Fernet

    def work(source: str, target: str) -> None:
        sealer = Fernet(Fernet.generate_key())
        Path(target).write_bytes(sealer.encrypt(Path(source).read_bytes()))

    return work


CONTENDERS: dict[str, Callable[[], Work]] = {
    "seal, 1 thread": lambda: sealing(1, None),
    "seal, 2 threads": lambda: sealing(2, None),
    "seal, 2 threads, SHA-256": lambda: sealing(2, "sha256"),
    "seal, 2 threads, BLAKE3": lambda: sealing(2, "blake3"),
    "seal, SHA-256, sign and fsync": seal_and_sign,
    "open, 2 threads": lambda: opening(2),
    "tink": tink_streaming,
    "aws-encryption-sdk": aws_encryption_sdk,
    "Fernet": fernet,
}


def inside(name: str, source: str, target: str) -> None:
    """One round in this process; prints wall and CPU seconds and the peak in bytes."""
    work = CONTENDERS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    work(source, target)
    wall = time.perf_counter() - start
    print(json.dumps(_figures(wall, before, resource.getrusage(resource.RUSAGE_SELF))))


def _figures(wall: float, before: resource.struct_rusage | None, after: resource.struct_rusage):
    cpu = after.ru_utime + after.ru_stime
    if before is not None:
        cpu -= before.ru_utime + before.ru_stime
    return {"wall_s": wall, "cpu_s": cpu, "peak_bytes": after.ru_maxrss * 1024}


def command(arguments: list[str]) -> dict[str, float]:
    """One round of a program, started and measured from outside."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return _figures(wall, None, usage)


def one_round(name: str, source: str, target: str, recipient: str) -> dict[str, float] | None:
    """Figures of one round; None: it is not installed."""
    Path(target).unlink(missing_ok=True)
    if name == "cp":
        return command(["cp", "--reflink=never", source, target])
    if name == "age":
        if shutil.which("age") is None:
            return None
        return command(["age", "-r", recipient, "-o", target, source])
    program = [sys.executable, __file__, "--inside", name, source, target]
    done = subprocess.run(program, capture_output=True, text=True)
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def age_recipient(folder: str) -> str:
    """A key pair of age's own; empty where it is not installed."""
    if shutil.which("age-keygen") is None:
        return ""
    made = subprocess.run(
        ["age-keygen", "-o", f"{folder}/age.key"], stderr=subprocess.PIPE, text=True, check=True
    )
    return made.stderr.rpartition(" ")[2].strip()


def measure(folder: str, size_mib: int, rounds: int) -> dict[str, dict[str, float]]:
    source, target = f"{folder}/plain", f"{folder}/target"
    with open(source, "wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))
    # Not in this process: a child's peak counts from what its parent held when it was forked.
    one_round("seal, 2 threads", source, f"{source}.sealed", "")
    recipient, results = age_recipient(folder), {}
    for name in ("cp", *CONTENDERS, "age"):
        # The slow ones take minutes; one round of them says enough.
        count = 1 if name in ("aws-encryption-sdk", "Fernet") else rounds
        taken = [one_round(name, source, target, recipient) for _ in range(count)]
        figures = [each for each in taken if each is not None]
        if not figures:
            print(f"{name}: not installed, left out", file=sys.stderr)
            continue
        results[name] = min(figures, key=lambda each: each["wall_s"])
        print(f"{name} done", file=sys.stderr)
    return results


def show(results: dict[str, dict[str, float]], size_mib: int) -> None:
    cores = len(os.sched_getaffinity(0))
    print(f"{size_mib} MiB, file to file, {cores} processors")
    print(f"{'':32}{'wall':>8}{'x cp':>7}{'CPU':>9}{'peak':>11}")
    for name, found in results.items():
        ratio = found["wall_s"] / results["cp"]["wall_s"]
        print(
            f"{name:32}{found['wall_s']:7.2f}s{ratio:7.2f}{found['cpu_s']:8.2f}s"
            f"{found['peak_bytes'] / MIB:7.0f} MiB"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dir", default=None, help="where the files lie; below it all is removed")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default=None, help="write the figures there, too")
    parser.add_argument("--inside", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(*options.inside)
        return 0
    with tempfile.TemporaryDirectory(prefix="secure-ml-bench-", dir=options.dir) as folder:
        results = measure(folder, options.mib, options.rounds)
    show(results, options.mib)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Sign and verify 10,000 files of 100 KiB, beside model-signing and `sha256sum` over the same.

The page cache is warm for all of them. model-signing signs with a key of its own, offline.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measuring import column, in_turns, median_ratio, say, spent

FILE_BYTES = 100 * 1024
# How long before a file is read it must have changed last to be remembered, and some.
SETTLED_S = 2.5
OURS = {"ours_sha256": "SHA-256", "ours_blake3": "BLAKE3"}
# Of model-signing's CPU, as it is by default.
AIMS = {"ours_sha256": 3, "ours_blake3": 10}


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Wall and CPU seconds by way and round."""
    files, rounds = (500, 2) if quick else (10_000, 3)
    data = folder / "data"
    say(f"manifest: writing {files} files")
    for number in range(files):
        path = data / f"{number % 100:02}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES))
    works = {
        "sha256sum": lambda: _sha256sum(data),
        "ours_sha256": _ours(data, "sha256"),
        "ours_blake3": _ours(data, "blake3"),
        "digests_sha256": _digests(data, "sha256"),
        "digests_blake3": _digests(data, "blake3"),
        "peer_sha256": _model_signing(folder, data, "sha256"),
        "peer_blake3": _model_signing(folder, data, "blake3"),
    }
    _sha256sum(data)
    timed = {name: lambda work=work: spent(work) for name, work in works.items()}
    found = {"files": files, "rounds": in_turns(timed, rounds, "manifest")}
    say("manifest: checking again")
    return {**found, "again": _again(folder, data)}


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    rounds, lines = found["rounds"], []
    what = f"{found['files']:,} × 100 KiB"
    for name, label in OURS.items():
        algorithm = name.removeprefix("ours_")
        share = 1 / _ratio(rounds, name, "peer_sha256")
        same = 1 / _ratio(rounds, name, f"peer_{algorithm}")
        beside = f"model-signing: {_median(rounds, 'peer_sha256'):.2f} s of CPU"
        if algorithm != "sha256":
            beside += f", 1/{same:.1f} of that with {label} too"
        met = "met" if share >= AIMS[name] else "**missed**"
        lines.append(
            (
                f"{what} signed and verified, {label}",
                f"{_median(rounds, name):.2f} s of CPU, 1/{share:.1f} of model-signing's",
                beside,
                f"≤ 1/{AIMS[name]}: {met}",
            )
        )
    for name, label in OURS.items():
        digests = name.replace("ours", "digests")
        lines.append(
            (
                f"{what} digested once, {label}",
                f"{_median(rounds, digests, 'wall_s'):.2f} s",
                f"{_ratio(rounds, digests, 'sha256sum', 'wall_s'):.2f} × `sha256sum`, "
                f"{_ratio(rounds, digests, 'sha256sum'):.2f} × its CPU",
                "reported",
            )
        )
    if "again" in found:
        first, again = (found["again"][name]["cpu_s"] for name in ("first", "again"))
        met = "met" if again <= 0.05 * first else "**missed**"
        lines.append(
            (
                f"{what} checked again after one file changed",
                f"{again:.2f} s of CPU, {again / first:.1%} of the first check's",
                f"`secure-ml verify --recheck`; the first: {first:.2f} s",
                f"≤ 5 % of the first: {met}",
            )
        )
    return lines


def _median(rounds: Mapping[str, Any], name: str, figure: str = "cpu_s") -> float:
    return statistics.median(column(rounds[name], figure))


def _ratio(rounds: Mapping[str, Any], name: str, reference: str, figure: str = "cpu_s") -> float:
    return median_ratio(column(rounds[name], figure), column(rounds[reference], figure))


def _ours(data: Path, algorithm: str) -> Callable[[], object]:
    """Sign as `secure-ml sign` does, and verify as its counterpart; the statement is removed."""
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.core.statement import Statement
    from airflow_secure_ml.services.manifests import build_manifest
    from airflow_secure_ml.services.signing import Demand, sign_artifact, verify_artifact
    from airflow_secure_ml.services.statement_files import statement_folder
    from airflow_secure_ml.testing.ports import MemoryKeySystem

    store, keys = LocalObjects(), MemoryKeySystem()
    signer, demand = keys.signer("pipeline"), Demand(verifiers=keys.verifiers(["pipeline"]))
    uri = store.canonical(str(data))

    def work() -> None:
        manifest = build_manifest(store, uri, algorithm=algorithm)
        said = Statement(object=uri, manifest=manifest, act="sign", signed_ms=1)
        sign_artifact(store, said, signer)
        assert verify_artifact(store, uri, demand).digest == manifest.digest
        store.delete(statement_folder(uri))

    return work


def _again(folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """A first check that remembers, and one after a file changed, which it must find."""
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.adapters.local_objects.remembering import LocalDigestMemory
    from airflow_secure_ml.core.statement import Statement
    from airflow_secure_ml.errors import IntegrityError
    from airflow_secure_ml.services.manifests import build_manifest
    from airflow_secure_ml.services.rechecking import recheck_artifact
    from airflow_secure_ml.services.signing import Demand, sign_artifact
    from airflow_secure_ml.testing.ports import MemoryKeySystem

    store, keys = LocalObjects(), MemoryKeySystem()
    demand = Demand(verifiers=keys.verifiers(["pipeline"]))
    uri = store.canonical(str(data))
    said = Statement(object=uri, manifest=build_manifest(store, uri), act="sign", signed_ms=1)
    sign_artifact(store, said, keys.signer("pipeline"))
    memory = LocalDigestMemory(folder / "memory")

    def check() -> None:
        recheck_artifact(store, uri, demand, memory)

    def find() -> None:
        try:
            check()
        except IntegrityError:
            return
        raise AssertionError("the changed file was not found")

    # A file that changed a moment before it was read is not remembered.
    time.sleep(SETTLED_S)
    first = spent(check)
    (data / "00" / "00000.bin").write_bytes(os.urandom(FILE_BYTES))
    return {"first": first, "again": spent(find)}


def _digests(data: Path, algorithm: str) -> Callable[[], object]:
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.services.manifests import build_manifest

    store = LocalObjects()
    return lambda: build_manifest(store, store.canonical(str(data)), algorithm=algorithm)


def _model_signing(folder: Path, data: Path, algorithm: str) -> Callable[[], object]:
    """Its own way with a key: ECDSA, each file digested, several at once."""
    from model_signing import hashing, signing, verifying

    private, public = _key_pair(folder)
    signature = folder / "model.sig"

    def hashed() -> Any:
        return hashing.Config().use_file_serialization(hashing_algorithm=algorithm)

    def work() -> None:
        signer = signing.Config().use_elliptic_key_signer(private_key=private)
        signer.set_hashing_config(hashed()).sign(data, signature)
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
        verifier.set_hashing_config(hashed()).verify(data, signature)

    return work


def _key_pair(folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, info))
    return private, public


def _sha256sum(folder: Path) -> None:
    names = subprocess.run(
        ["find", folder, "-type", "f", "-print0"], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(
        ["xargs", "-0", "sha256sum"], input=names.stdout, stdout=subprocess.DEVNULL, check=True
    )

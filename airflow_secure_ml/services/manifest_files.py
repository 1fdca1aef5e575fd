"""Manifests as files beside the statements that commit to them.

Each lies at `<address>.sig/<digest>.manifest` and is shared by all statements about the same bytes.
Nobody signs it: it is believed as far as its digest is the one that was signed, so whoever can
write there can take it away, and put nothing in its place.
"""

from __future__ import annotations

import hmac
import re

from airflow_secure_ml.core.digest import digest_of
from airflow_secure_ml.core.manifest import Commitment, Manifest
from airflow_secure_ml.core.ports import ObjectStore
from airflow_secure_ml.errors import FormatError, PolicyError, SignatureError

_FILE = re.compile(r"sha256-[0-9a-f]{64}\.manifest")


def is_manifest(name: str) -> bool:
    """Whether a file of that name, beside statements, is to be a manifest."""
    return _FILE.fullmatch(name) is not None


def keep_manifest(store: ObjectStore, folder: str, manifest: Manifest) -> str:
    """Put a manifest where readers of a statement look for it; returns its address.

    What lies there already and is another one is nobody's: it is replaced.

    Raises:
        IntegrityError: Somebody else replaced it at the same time.
        ServiceError: The store did not take it.
    """
    uri, data = _address(folder, manifest.digest), manifest.canonical
    if store.info(uri) is None:
        try:
            with store.create(uri) as writer:
                writer.write_at(0, data)
                writer.commit(replace=False)
            return uri
        except PolicyError:
            pass  # Another try was faster.
    with store.open(uri) as pinned:
        version = pinned.version
        if pinned.size_bytes == len(data) and pinned.read_at(0, len(data)) == data:
            return uri
    with store.create(uri) as writer:
        writer.write_at(0, data)
        writer.commit(replace=True, if_version=version)
    return uri


def read_manifest(store: ObjectStore, folder: str, signed: Commitment) -> Manifest:
    """Read the manifest that a verified statement commits to.

    Raises:
        SignatureError: It is missing, or another one than was signed; whoever digests the artifact
            does not need it.
    """
    uri = _address(folder, signed.digest)
    try:
        with store.open(uri) as pinned:
            if pinned.size_bytes != signed.length_bytes:
                raise SignatureError(
                    f"{uri}: expected the signed manifest of {signed.length_bytes} bytes, found "
                    f"{pinned.size_bytes}; sign the artifact again to restore it"
                )
            data = pinned.read_at(0, signed.length_bytes)
        # Digested before it is parsed: only a trusted signer's bytes reach the parser.
        if not hmac.compare_digest(str(digest_of([data])), signed.digest):
            raise SignatureError(
                f"{uri}: it is not the manifest that was signed; sign the artifact again to "
                "restore it"
            )
        manifest = Manifest.parse(data)
    except FileNotFoundError as error:
        raise SignatureError(
            f"{uri}: the manifest that a statement commits to is missing; copy it along with the "
            "statements, or sign the artifact again"
        ) from error
    except FormatError as error:
        raise SignatureError(f"{uri}: no manifest of this release: {error}") from error
    if manifest.commitment != signed:
        raise SignatureError(f"{uri}: its statement says other counts of it than it has")
    return manifest


def _address(folder: str, digest: str) -> str:
    return f"{folder}/{digest.replace(':', '-')}.manifest"

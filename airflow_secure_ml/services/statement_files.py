"""Signed statements as files beside the artifact they are about.

They lie at `<address>.sig/`, one file a digest and key: added, never replaced. Whoever signs does
so before it publishes, so no reader meets new bytes with an old statement. A long manifest lies
beside them (`services.manifest_files`). What a reader demands is `services.signing`'s part.

Source: API, Signatures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_secure_ml.core import dsse, statement
from airflow_secure_ml.core.crypto_policy import governing
from airflow_secure_ml.core.manifest import Manifest
from airflow_secure_ml.core.ports import KeyRef, ObjectStore, Signer, Verifier
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import ConfigurationError, FormatError, PolicyError, SignatureError
from airflow_secure_ml.services.manifest_files import is_manifest, keep_manifest, read_manifest

_MAX_TWINS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FILE = re.compile(r"sha256-([0-9a-f]{64})\.[A-Za-z0-9._-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """A statement, whose accepted signatures hold, and where it lies.

    Attributes:
        uri: The statement's own address.
        statement: What was signed.
        signers: Whose accepted signatures hold.
        manifest: The artifact's files; None: it lies beside the statement, and was not read
            (`signed_manifest`).
    """

    uri: str
    statement: Statement
    signers: tuple[KeyRef, ...]
    manifest: Manifest | None = None

    @property
    def digest(self) -> str:
        """The artifact's digest, as References carry it."""
        return self.statement.manifest.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStatements:
    """What reading statements came to.

    Attributes:
        held: Those with an accepted signature that holds.
        failures: Why each of the others does not count.
    """

    held: list[SignedStatement]
    failures: list[SignatureError | PolicyError]


def statement_folder(uri: str) -> str:
    """Where the statements about an artifact lie."""
    return f"{uri.rstrip('/')}.sig"


def sign_artifact(store: ObjectStore, said: Statement, signer: Signer) -> SignedStatement:
    """Sign a statement and put it where readers of its object look.

    Args:
        store: The object's store.
        said: The statement; `object` is the canonical address it is about.
        signer: With which key.

    Raises:
        ConfigurationError: The key's name cannot be part of a file's name.
        FormatError: Too many files, or too long names, for one manifest.
        ServiceUnavailableError: Key system or store did not answer.
    """
    governing([signer]).check_digest(said.manifest.algorithm, "write")
    short = said.shortened()
    data = dsse.sign(short.encode(), [signer]).encode()
    stem = _file_stem(said.manifest.digest, signer.ref)
    whole = said.manifest if isinstance(said.manifest, Manifest) else None
    if whole is not None and short is not said:
        keep_manifest(store, statement_folder(said.object), whole)
    # The same bytes may be signed again, by a later run: that is one more statement.
    for name in (stem, *(f"{stem}.{twin}" for twin in range(2, _MAX_TWINS))):
        uri = f"{statement_folder(said.object)}/{name}"
        if store.info(uri) is not None:
            continue
        with store.create(uri) as writer:
            writer.write_at(0, data)
            try:
                writer.commit(replace=False)
            except PolicyError:
                continue  # Another try was faster; its statement stays.
        return SignedStatement(uri=uri, statement=short, signers=(signer.ref,), manifest=whole)
    raise ConfigurationError(
        f"{said.object}: {_MAX_TWINS} statements of {signer.ref} about the same bytes;"
        f" remove old ones from {statement_folder(said.object)}"
    )


def find_statements(store: ObjectStore, uri: str, digest: str | None = None) -> list[str]:
    """Addresses of the statements beside an artifact, unread; all, or those about one digest.

    Raises:
        SignatureError: The folder holds links that lead out, devices or the like.
    """
    folder = statement_folder(uri)
    info = store.info(folder)
    if info is None:
        return []
    try:
        names = list(store.walk(folder))
        wanted = "" if digest is None else digest.replace(":", "-") + "."
        fitting = [name for name in names if _FILE.fullmatch(name) and name.startswith(wanted)]
        return [store.child(folder, name) for name in fitting if not is_manifest(name)]
    except FormatError as error:
        raise SignatureError(f"{folder}: expected statements only; {error}") from error


def read_statements(
    store: ObjectStore,
    uris: Sequence[str],
    verifiers: Sequence[Verifier],
    *,
    about: Sequence[str] | None = None,
) -> FoundStatements:
    """Read and verify statements; what does not hold is kept as the reason.

    Args:
        store: The artifact's store.
        uris: From `find_statements`.
        verifiers: The keys whose signatures are accepted.
        about: Paths of the artifact's files; they bound what a statement about them may measure.
    """
    limit_bytes = dsse.MAX_ENVELOPE_BYTES if about is None else _limit_bytes(about)
    found = FoundStatements(held=[], failures=[])
    for uri in uris:
        try:
            found.held.append(_read(store, uri, limit_bytes, verifiers))
        except FileNotFoundError:
            continue
        except (SignatureError, PolicyError) as error:
            found.failures.append(error)
    return found


def signed_manifest(store: ObjectStore, signed: SignedStatement) -> Manifest:
    """The manifest that a statement holds, or commits to; read only where it is not known yet.

    Raises:
        SignatureError: The manifest beside it is missing, or is not the one that was signed.
    """
    if signed.manifest is not None:
        return signed.manifest
    return read_manifest(store, signed.uri.rpartition("/")[0], signed.statement.commitment)


def _read(
    store: ObjectStore, uri: str, limit_bytes: int, verifiers: Sequence[Verifier]
) -> SignedStatement:
    try:
        with store.open(uri) as pinned:
            if pinned.size_bytes > limit_bytes:
                raise SignatureError(f"{uri}: {pinned.size_bytes} bytes are no statement here")
            data = pinned.read_at(0, limit_bytes)
        payload, signers = dsse.verify(dsse.parse(data), verifiers)
        said = statement.parse(payload)
        governing(verifiers).check_digest(said.manifest.algorithm, "read")
    except FormatError as error:
        raise SignatureError(f"{uri}: no statement of this release: {error}") from error
    except SignatureError as error:
        raise SignatureError(f"{uri}: {error}", why=error.why) from error
    except PolicyError as error:
        raise PolicyError(f"{uri}: {error}", why=error.why) from error
    filed = _FILE.fullmatch(uri.rpartition("/")[2])
    if filed is None or said.manifest.digest != f"sha256:{filed[1]}":
        raise SignatureError(f"{uri}: the statement in it is about {said.manifest.digest}")
    manifest = said.manifest if isinstance(said.manifest, Manifest) else None
    return SignedStatement(uri=uri, statement=said, signers=signers, manifest=manifest)


def _limit_bytes(paths: Sequence[str]) -> int:
    # A statement is about as long as the manifest in it; who can write into the folder must not
    # make a reader of one small file parse megabytes. JSON writes a byte as six at most.
    longest = sum(6 * len(each.encode()) + 512 for each in paths)
    return min((1 << 20) + 2 * longest, dsse.MAX_ENVELOPE_BYTES)


def _file_stem(digest: str, ref: KeyRef) -> str:
    for part in (ref.name, ref.version):
        if not _NAME.fullmatch(part):
            raise ConfigurationError(
                f"key {ref}: a statement's file name takes a-z A-Z 0-9 . _ - only; name it so"
            )
    return f"{digest.replace(':', '-')}.{ref.name}.{ref.version}"

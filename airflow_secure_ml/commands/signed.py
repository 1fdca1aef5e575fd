"""`sign` and `verify`: statements beside a file or folder, without a key that opens it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, key_facts
from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.rechecking import Rechecked, recheck_artifact
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.signing import Demand, sign_artifact, verify_artifact

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import ObjectStore


def sign(arguments: argparse.Namespace, session: Session) -> Result:
    """Vouch for a file or folder as it is now; other signatures stay."""
    uri = session.address(arguments.path)
    store = session.store_of(uri)
    name = arguments.key or session.settings.signing_key
    with session.act("object.sign", object={"uri": uri}, key={"name": name}) as outcome:
        signer = session.keys.signer(name)
        manifest = build_manifest(store, uri)
        outcome.key = key_facts(signer.ref)
        outcome.object = {"digest": manifest.digest}
        said = Statement(
            object=uri,
            manifest=manifest,
            act="sign",
            signed_ms=time.time_ns() // 1_000_000,
            context=_context(store, uri),
        )
        signed = sign_artifact(store, said, signer)
        outcome.more = {"statement": signed.uri}
    data = {
        "object": uri,
        "digest": manifest.digest,
        "signer": str(signer.ref),
        "statement": signed.uri,
    }
    return Result(data=data, lines=[f"signed {uri} with {signer.ref}", f"statement {signed.uri}"])


def verify(arguments: argparse.Namespace, session: Session) -> Result:
    """Require an accepted signature over a file or folder as it is now."""
    uri = session.address(arguments.path)
    store = session.store_of(uri)
    names = arguments.signed_by or list(session.settings.trusted_signers)
    more = {"expected": ", ".join(names)}
    with session.act("object.verify", object={"uri": uri}, more=more) as outcome:
        demand = Demand(verifiers=session.keys.verifiers(names))
        if arguments.recheck:
            found = _recheck(session, uri, demand)
            verified, remembered = found.verified, {"remembered": found.remembered}
        else:
            verified, remembered = verify_artifact(store, uri, demand), {}
        signers = [str(ref) for ref in verified.signers]
        outcome.object = {"digest": verified.digest}
        outcome.more = {"signers": signers, **remembered}
    data = {
        "object": uri,
        "digest": verified.digest,
        "signers": signers,
        "suites": [suite.name for suite in verified.suites],
        "statements": [each.uri for each in verified.statements],
        **remembered,
    }
    lines = [f"verified {uri}: signed by {', '.join(signers)}"]
    if arguments.recheck:
        lines.append(_not_read(remembered["remembered"]))
    return Result(data=data, lines=lines)


def _recheck(session: Session, uri: str, demand: Demand) -> Rechecked:
    # Imported here: a lease on a file, which it looks for, is of Linux alone.
    from airflow_secure_ml.adapters.local_objects.remembering import LocalDigestMemory, not_local

    # Before a bucket is asked for anything.
    if not uri.startswith("file:"):
        raise not_local(uri)
    memory = LocalDigestMemory(session.settings.digest_memory_dir)
    return recheck_artifact(session.store_of(uri), uri, demand, memory)


def _not_read(remembered: int) -> str:
    if not remembered:
        return "every file was read"
    files = "1 file was" if remembered == 1 else f"{remembered} files were"
    return (
        f"{files} not read: unchanged since an earlier check, by this machine's file system; "
        "verify without --recheck to read all"
    )


def _context(store: ObjectStore, uri: str) -> Mapping[str, str]:
    """What a sealed file's header says; core_id, which is signed, commits to it."""
    info = store.info(uri)
    if info is None or info.is_directory:
        return {}
    with store.open(uri) as pinned:
        if pinned.read_at(0, len(MAGIC)) != MAGIC:
            return {}
        return read_sealed_header(pinned).core.context

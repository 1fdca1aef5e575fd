"""What a signed statement says of one sealed file that is to be opened, for whoever demands one.

A key to receive with opens what anybody may have sealed, so it is used only here, or where the
caller says that nobody's signature is wanted.

Source: SEALED_FILE_FORMAT, What opening does not prove.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.sealed_file.context import AnyContext, Expected
from airflow_secure_ml.errors import ConfigurationError, IntegrityError
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.signing import Demand, verify_artifact

if TYPE_CHECKING:
    from airflow_secure_ml.core.manifest import Entry
    from airflow_secure_ml.core.ports import PinnedObject


def check_asked(arguments: argparse.Namespace, *, whole: bool) -> None:
    """Refuse `--signed-by` where no statement can be held against what is opened.

    Args:
        arguments: Of `open`.
        whole: Whether it is one file with an address.
    """
    if arguments.signed_by and arguments.unsigned:
        raise ConfigurationError("expected --signed-by or --unsigned, found both")
    if arguments.signed_by and not whole:
        raise ConfigurationError(
            "--signed-by: expected a file with an address, found a pipe or a folder; a folder is "
            "opened with --recursive, and a pipe has no statement beside it"
        )


def signed_entry(
    arguments: argparse.Namespace, session: Session, source: PinnedObject, expect: Expected
) -> Entry | None:
    """What an accepted signer says of this file; None: no signature was asked for.

    Raises:
        SignatureError, PolicyError, IntegrityError: As `verify_artifact`.
    """
    if not arguments.signed_by:
        return None
    pairs: Mapping[str, str] = {} if isinstance(expect, AnyContext) else expect
    original = pairs.get("object")
    more = {"expected": ", ".join(arguments.signed_by)}
    with session.act("object.verify", object={"uri": source.uri}, more=more) as outcome:
        demand = Demand(
            verifiers=session.keys.verifiers(arguments.signed_by),
            context=pairs,
            same_as=None if original is None else session.address(original),
        )
        verified = verify_artifact(session.store_of(source.uri), source.uri, demand)
        outcome.object = {"digest": verified.digest}
        outcome.more = {"signers": [str(ref) for ref in verified.signers]}
    (entry,) = verified.manifest.entries
    # What was verified lay at the address then; what is opened is held since before.
    if entry.core_id != read_sealed_header(source).core_id.hex():
        raise IntegrityError(f"{source.uri}: it was replaced while it was read; open it again")
    return entry

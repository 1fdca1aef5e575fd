"""`seal --recursive` and `open --recursive`: bring existing data in, and take it out again.

Both can be interrupted and begun again with the same arguments; what they say at the end is for
people, or with `--json` for programs. Exit status 0 says that all of it is there.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from typing import Any

from airflow_secure_ml.commands.places import PIPE, context_pairs, reader_keys
from airflow_secure_ml.commands.progress import TreeProgress
from airflow_secure_ml.commands.running import REFUSED, Result
from airflow_secure_ml.commands.session import Outcome, Session, key_facts
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT, AnyContext, Expected
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.journal import in_words
from airflow_secure_ml.services.opening_below import OpeningBelow, OpeningKeys
from airflow_secure_ml.services.sealing_below import SealingBelow, SealingKeys
from airflow_secure_ml.services.signing import Demand, SignedStatement, statements_for
from airflow_secure_ml.services.statement_files import signed_manifest
from airflow_secure_ml.services.tree_work import Tally, Tree, require_directory

_MAX_THREADS = 64


def seal_tree(arguments: argparse.Namespace, session: Session) -> Result:
    """Seal every file below SRC to DST under one data-set key, and sign the whole."""
    source, target = _trees(arguments, session)
    if arguments.replace:
        raise ConfigurationError(
            "seal --recursive: expected no --replace; what an earlier run sealed is replaced when "
            "its source changed, and nothing else"
        )
    names = tuple(arguments.key or [session.settings.data_key])
    signing = arguments.sign_key or session.settings.signing_key
    began = time.monotonic()
    facts = {"uri": target.uri}
    with session.act("object.seal", object=facts, key={"name": names[0]}) as outcome:
        keys = SealingKeys(
            system=session.keys,
            names=names,
            signer=session.keys.signer(signing),
            verifiers=session.keys.verifiers([signing]),
        )
        with TreeProgress("sealed", is_quiet=arguments.json) as progress:
            sealing = SealingBelow(
                source,
                target,
                keys=keys,
                context=context_pairs(arguments.context),
                threads=_threads(arguments),
                keep_going=arguments.keep_going,
                pace=progress,
            )
            progress.watch(sealing.tally)
            with session.act("object.publish", object=facts) as published:
                tally = sealing.run()
                _tell(tally, outcome, published)
    data = {"object": target.uri, **tally.as_record(), "data_set_key": sealing.dataset_key}
    if tally.failed:
        return _result("sealed", data, tally, began, "nothing was signed", status=REFUSED)
    with session.act("object.sign", object=facts, key={"name": signing}) as outcome:
        statement = sealing.sign(time.time_ns() // 1_000_000)
        outcome.key = key_facts(keys.signer.ref)
        outcome.object = {"digest": statement.digest}
        outcome.more = {"statement": statement.uri}
    by = [str(ref) for ref in statement.signers]
    data |= {"digest": statement.digest, "statement": statement.uri, "signed_by": by}
    return _result("sealed", data, tally, began, f"signed by {', '.join(by)}: {target.uri}")


def open_tree(arguments: argparse.Namespace, session: Session) -> Result:
    """Open every file below SRC to DST, each as the statement about the whole names it."""
    source, target = _trees(arguments, session)
    if arguments.replace:
        raise ConfigurationError(
            "open --recursive: expected no --replace; what is there already is compared, or must go"
        )
    if arguments.unsigned and arguments.signed_by:
        raise ConfigurationError("expected --signed-by or --unsigned, found both")
    require_directory(source)
    expect, original = _expected(arguments, session, source)
    began = time.monotonic()
    signed = None if arguments.unsigned else _verified(arguments, session, source, expect, original)
    with (
        session.act("object.open", object={"uri": source.uri}) as outcome,
        session.act("object.publish", object={"uri": target.uri}) as published,
        TreeProgress("opened", is_quiet=arguments.json) as progress,
    ):
        opening = OpeningBelow(
            source,
            target,
            keys=OpeningKeys(
                readers=reader_keys(session, arguments),
                state_of=session.keys.state_of,
                expect=expect,
                original=original,
            ),
            said=None if signed is None else signed_manifest(source.store, signed),
            threads=_threads(arguments),
            keep_going=arguments.keep_going,
            pace=progress,
        )
        progress.watch(opening.tally)
        tally = opening.run()
        _tell(tally, outcome, published)
    by = None if signed is None else [str(ref) for ref in signed.signers]
    data = {"object": target.uri, **tally.as_record(), "signed_by": by}
    who = "nobody's signature was asked for" if by is None else f"signed by {', '.join(by)}"
    status = REFUSED if tally.failed else 0
    return _result("opened", data, tally, began, f"{who}: {target.uri}", status=status)


def refuse_without_recursive(arguments: argparse.Namespace, *names: str) -> None:
    """Refuse what only says something about folders: nobody is to think that it was heeded."""
    for name in names:
        if getattr(arguments, name):
            flag = f"--{name.replace('_', '-')}"
            raise ConfigurationError(f"{flag}: expected with --recursive, found without it")


def _trees(arguments: argparse.Namespace, session: Session) -> tuple[Tree, Tree]:
    if PIPE in (arguments.source, arguments.target):
        raise ConfigurationError("--recursive: expected two folders, found a pipe")
    source, target = session.address(arguments.source), session.address(arguments.target)
    return (
        Tree(store=session.store_of(source), uri=source),
        Tree(store=session.store_of(target), uri=target),
    )


def _threads(arguments: argparse.Namespace) -> int:
    if arguments.threads is None:
        return min(_MAX_THREADS, 2 * len(os.sched_getaffinity(0)))
    if not 1 <= arguments.threads <= _MAX_THREADS:
        raise ConfigurationError(f"--threads {arguments.threads}: expected 1 to {_MAX_THREADS}")
    return int(arguments.threads)


def _expected(
    arguments: argparse.Namespace, session: Session, source: Tree
) -> tuple[Expected, Tree]:
    """Pairs that every file must hold besides `object`, and the tree that it was sealed as."""
    pairs = context_pairs(arguments.context)
    if arguments.any_context:
        if pairs:
            raise ConfigurationError("expected --context or --any-context, found both")
        return ANY_CONTEXT, source
    if "object" not in pairs:
        return pairs, source
    original = session.address(pairs.pop("object"))
    return pairs, Tree(store=session.store_of(original), uri=original)


def _verified(
    arguments: argparse.Namespace,
    session: Session,
    source: Tree,
    expect: Expected,
    original: Tree,
) -> SignedStatement:
    """The newest statement about what lies there; what it says of each file is held against it."""
    names = arguments.signed_by or list(session.settings.trusted_signers)
    more = {"expected": ", ".join(names)}
    with session.act("object.verify", object={"uri": source.uri}, more=more) as outcome:
        pairs: Mapping[str, str] = {} if isinstance(expect, AnyContext) else expect
        demand = Demand(
            verifiers=session.keys.verifiers(names), context=pairs, same_as=original.uri
        )
        found = statements_for(source.store, source.uri, demand).statements[0]
        outcome.object = {"digest": found.digest}
        outcome.more = {"signers": [str(ref) for ref in found.signers]}
    return found


def _tell(tally: Tally, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        outcome.object = {"bytes": tally.done_bytes + tally.already_bytes}
        if tally.failed:
            outcome.why = tally.failures[0].why


def _result(
    word: str, data: dict[str, Any], tally: Tally, began: float, last: str, *, status: int = 0
) -> Result:
    took = time.monotonic() - began
    lines = [
        f"{word} {tally.done} files, {in_words(tally.done_bytes)}, in {took:.1f} s; "
        f"{tally.already} were {word} before, {tally.failed} failed",
        *(f"failed: {error}" for error in tally.failures),
    ]
    if tally.failed > len(tally.failures):
        lines.append(f"and {tally.failed - len(tally.failures)} more failed")
    left = tally.files - tally.done - tally.already - tally.failed
    if left:
        lines.append(f"{left} files are left: --keep-going goes on past what fails")
    return Result(
        data={**data, "left": left, "seconds": round(took, 3)}, lines=[*lines, last], status=status
    )

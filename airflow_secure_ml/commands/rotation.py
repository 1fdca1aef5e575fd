"""`keys rotate`, `keys usage` and `rewrap`, wherever a key lies.

What is rewritten is recorded object by object, before it happens, with who does it.
"""

from __future__ import annotations

import argparse

from airflow_secure_ml.commands import sealed
from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.commands.trail import trail_of
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.key_rotation import rotate_key
from airflow_secure_ml.services.key_usage import Place, count_usage
from airflow_secure_ml.services.rewrapping_below import rewrap_below


def rotate(arguments: argparse.Namespace, session: Session) -> Result:
    """Make a new version of a key."""
    made = rotate_key(session.keys, arguments.name, trail_of(session))
    data = {"key": made.name, "version": int(made.version)}
    return Result(data=data, lines=[f"made version {made}"])


def usage(arguments: argparse.Namespace, session: Session) -> Result:
    """Count which versions of a key open the sealed files below some paths."""
    uris = [session.address(path) for path in arguments.paths]
    with _progress() as progress:
        found = count_usage(
            session.store_of,
            uris,
            keys=session.keys,
            name=arguments.name,
            progress=progress,
        )
    counts = found.counts
    lines = [
        f"{found.key}/{each.number}  {each.state:<9}  {counts[each.number]} files"
        for each in found.versions
    ]
    lines += [_in_words(found.key, place) for place in found.places]
    if found.unresolved:
        lines.append(
            f"the keys of {len(found.unresolved)} data sets lie elsewhere and were not looked at"
        )
    lines.append(f"{found.sealed} sealed files were looked at")
    return Result(data=found.as_record(), lines=lines)


def rewrap(arguments: argparse.Namespace, session: Session) -> Result:
    """Give a sealed file other slots, or all below a folder the newest version of a key."""
    if not arguments.recursive:
        return sealed.rewrap(arguments, session)
    if arguments.key is None or len(arguments.key) != 1 or arguments.data_set is not None:
        raise ConfigurationError(
            "rewrap --recursive: expected --key once and no --data-set: the slots of that key get "
            "its newest version, and all others stay"
        )
    uri = session.address(arguments.file)
    with _progress() as progress:
        tally = rewrap_below(
            session.store_of(uri),
            uri,
            keys=session.keys,
            name=arguments.key[0],
            trail=trail_of(session),
            progress=progress,
        )
    tally.raise_failures(uri)
    data = {
        "prefix": uri,
        "key": tally.key,
        "version": tally.newest,
        "rewrapped": tally.rewrapped,
        "already": tally.already,
        "others": tally.others,
    }
    line = (
        f"rewrapped {tally.rewrapped} files with {tally.key}/{tally.newest}; {tally.already} had "
        f"it, {tally.others} are for other keys"
    )
    return Result(data=data, lines=[line])


def _progress() -> Progress:
    return Progress(None, in_words=lambda count: f"{count:.0f} files")


def _in_words(key: str, place: Place) -> str:
    what = "data set" if place.is_data_set else "files with slots of their own"
    versions = ", ".join(f"{key}/{each}: {n}" for each, n in sorted(place.versions.items()))
    return f"  {place.uri} ({what})  {versions}"

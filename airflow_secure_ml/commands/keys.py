"""`keys …`: make and manage the keys of the local keyring.

Every change is an event, written before it is made. A key itself is never printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.local_keyring.keyring import FIRST_KEYS, SYSTEM
from airflow_secure_ml.commands.asking import ask
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, key_facts
from airflow_secure_ml.core.ed25519 import MAX_TEXT_CHARS
from airflow_secure_ml.errors import ConfigurationError, FormatError
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import KeyRef


def init(arguments: argparse.Namespace, session: Session) -> Result:
    """Make the keyring and the audit log's key: what is missing of them, never over another."""
    from airflow_secure_ml.adapters.log_signer import KEY_FILE, init_log

    settings, path = session.settings, session.keyring.path
    signer_dir = settings.audit_signer_dir
    has_log, has_keys = (signer_dir / KEY_FILE).exists(), os.path.lexists(path)
    if has_log and has_keys:
        raise ConfigurationError(
            f"{path} and {signer_dir / KEY_FILE}: expected neither, found both; they stay as they "
            "are. See `secure-ml keys list`"
        )
    data: dict[str, Any] = {"keyring": str(path), "signer_dir": str(signer_dir), "keys": []}
    lines = []
    # The log first: without it the trail of the keys' making would have no key to be signed by.
    if not has_log:
        data["origin"] = init_log(signer_dir, settings.audit_log_name)
        lines.append(f"made the audit log {data['origin']}, its key in {signer_dir}")
    if not has_keys:
        for ref in _first_keys(session):
            data["keys"].append({"name": ref.name, "version": ref.version})
            lines.append(f"made key {ref}")
        lines.append(f"in {path}: keep a copy where nobody else can read it")
    return Result(data=data, lines=lines)


def _first_keys(session: Session) -> list[KeyRef]:
    (first, purpose), *others = FIRST_KEYS
    more = {"purpose": ", ".join(f"{name}: {kind}" for name, kind in FIRST_KEYS)}
    more["keyring"] = str(session.keyring.path)
    with session.act("key.create", key={"system": SYSTEM, "name": first}, more=more) as outcome:
        made = session.keyring.init(((first, purpose), *others))
        outcome.key = key_facts(made[0])
        outcome.more["count"] = len(made)
    return made


def create(arguments: argparse.Namespace, session: Session) -> Result:
    """Make a key."""
    name, purpose = arguments.name, arguments.purpose
    return _changed(
        session,
        "key.create",
        name,
        lambda: session.keyring.create(name, purpose),
        f"made key {{}} to {purpose}",
        purpose=purpose,
    )


def rotate(arguments: argparse.Namespace, session: Session) -> Result:
    """Make a new version of a key."""
    name = arguments.name
    return _changed(
        session, "key.rotate", name, lambda: session.keyring.rotate(name), "made version {}"
    )


def retire(arguments: argparse.Namespace, session: Session) -> Result:
    """Let a key only open and verify."""
    return _state(arguments, session, "key.disable", session.keyring.retire, "retired")


def enable(arguments: argparse.Namespace, session: Session) -> Result:
    """Let a key work again."""
    return _state(arguments, session, "key.disable", session.keyring.enable, "enabled")


def disable(arguments: argparse.Namespace, session: Session) -> Result:
    """Let a key do nothing for now."""
    return _state(arguments, session, "key.disable", session.keyring.disable, "disabled")


def destroy(arguments: argparse.Namespace, session: Session) -> Result:
    """Remove a key's bytes, forever."""
    ask(
        f"Destroy {arguments.name}? What only it opens is lost forever. Its name to go on: ",
        answer=arguments.name,
        refused=f"{arguments.name}: not destroyed",
        yes=arguments.yes,
    )
    return _state(arguments, session, "key.destroy", session.keyring.destroy, "destroyed")


def list_keys(arguments: argparse.Namespace, session: Session) -> Result:
    """Show keys, versions and states."""
    data = [
        {
            "name": key.name,
            "purpose": key.purpose,
            "version": version.number,
            "state": version.state,
            "created": version.created,
        }
        for key in session.keyring.list_keys()
        for version in key.versions
    ]
    width = max((len(str(each["name"])) for each in data), default=0)
    lines = [
        f"{each['name']:<{width}}  {each['version']:>3}  {each['purpose']:<5}  "
        f"{each['state']:<9}  {each['created']}"
        for each in data
    ]
    return Result(data=data, lines=lines)


def export_public(arguments: argparse.Namespace, session: Session) -> Result:
    """Print the public halves of a sign key."""
    text = session.keyring.export_public(arguments.name)
    return Result(data={"name": arguments.name, "public": text}, lines=text.splitlines())


def trust(arguments: argparse.Namespace, session: Session) -> Result:
    """Accept somebody else's signatures."""
    text = _read_text(arguments.file)
    name = arguments.name
    return _changed(
        session,
        "key.create",
        name,
        lambda: session.keyring.trust(name, text),
        "trusting signatures of {}",
        purpose="trust",
    )


def usage(arguments: argparse.Namespace, session: Session) -> Result:
    """Count which versions of a key open the sealed files below some paths."""
    key = session.keyring.find_key(arguments.name)
    counts: Counter[str] = Counter()
    files = 0
    for path in arguments.paths:
        for address in _files_below(session, path):
            slots = _slots_of(session, address)
            files += bool(slots)
            counts.update(slots)
    data = {
        "key": key.name,
        "sealed_files": files,
        "versions": [
            {
                "version": each.number,
                "state": each.state,
                "files": counts[f"{key.name}/{each.number}"],
            }
            for each in key.versions
        ],
    }
    lines = [
        f"{key.name}/{each.number}  {each.state:<9}  {counts[f'{key.name}/{each.number}']} files"
        for each in key.versions
    ]
    return Result(data=data, lines=[*lines, f"{files} sealed files were looked at"])


def _files_below(session: Session, path: str) -> Iterator[str]:
    store = session.store
    uri = session.address(path)
    info = store.info(uri)
    if info is None:
        raise FileNotFoundError(2, "nothing there", path)
    if not info.is_directory:
        yield uri
        return
    # A data set's headers, which walk leaves out, are what a key opens there.
    for name in store.walk(uri):
        yield store.child(uri, name)
    headers = store.child(uri, KEY_FOLDER)
    if store.info(headers) is not None:
        for name in store.walk(headers):
            yield store.child(headers, name)


def _slots_of(session: Session, address: str) -> list[str]:
    from airflow_secure_ml.core.sealed_file.header import MAGIC
    from airflow_secure_ml.core.sealed_file.keys import TYPE_LOCAL_KEK
    from airflow_secure_ml.services.sealed_header import read_sealed_header

    with session.store.open(address) as pinned:
        if pinned.read_at(0, len(MAGIC)) != MAGIC:
            return []
        try:
            header = read_sealed_header(pinned)
        except FormatError as error:
            raise FormatError(f"{address}: {error}") from error
    return [slot.id for slot in header.slots if slot.type == TYPE_LOCAL_KEK]


def _read_text(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.read(MAX_TEXT_CHARS + 1)
        with Path(name).open(encoding="utf-8") as stream:
            return stream.read(MAX_TEXT_CHARS + 1)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: expected a text with public keys") from error


def _state(
    arguments: argparse.Namespace,
    session: Session,
    act: str,
    change: Callable[[str, int | None], KeyRef],
    word: str,
) -> Result:
    name, _, version = arguments.name.partition("/")
    if version and not (version.isascii() and version.isdigit() and len(version) < 10):
        raise ConfigurationError(f"{arguments.name}: expected NAME or NAME/VERSION, such as data/2")
    number = int(version) if version else None
    key = {"system": SYSTEM, "name": name}
    if number is not None:
        key["version"] = str(number)
    with session.act(act, key=key, more={"state": word}):
        change(name, number)
    data = {"key": name, "version": number, "state": word}
    return Result(data=data, lines=[f"{word} {arguments.name}"])


def _changed(
    session: Session,
    act: str,
    name: str,
    change: Callable[[], KeyRef],
    words: str,
    **more: str,
) -> Result:
    with session.act(act, key={"system": SYSTEM, "name": name}, more=more) as outcome:
        ref = change()
        outcome.key = key_facts(ref)
    data = {"key": ref.name, "version": int(ref.version)}
    return Result(data=data, lines=[words.format(ref)])

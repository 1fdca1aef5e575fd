"""`keys …`: make and manage the keys of the local keyring; `rotation` rotates those elsewhere too.

Every change is an event, written before it is made. A key itself is never printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.local_keyring.keyring import FIRST_KEYS, SYSTEM, LocalKeyring
from airflow_secure_ml.adapters.local_keyring.passphrase_file import read_passphrase
from airflow_secure_ml.commands.asking import ask, ask_new_passphrase
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, key_facts
from airflow_secure_ml.core.ed25519 import MAX_TEXT_CHARS, public_text
from airflow_secure_ml.core.sealed_file.hpke import SCHEME, recipient_text
from airflow_secure_ml.errors import ConfigurationError, PolicyError, ServiceRefusedError
from airflow_secure_ml.key_systems import how_to_make, is_in_keyring, is_in_token

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import KeyRef
    from airflow_secure_ml.core.secret import Secret


def init(arguments: argparse.Namespace, session: Session) -> Result:
    """Make the keyring and the audit log's key: what is missing of them, never over another."""
    from airflow_secure_ml.adapters.log_signer import KEY_FILE

    settings = session.settings
    signer_dir = settings.audit_signer_dir
    if arguments.log_only:
        origin = _init_log(arguments, session)
        made = f"made the audit log {origin}, its key in {signer_dir}"
        return Result(data={"signer_dir": str(signer_dir), "origin": origin}, lines=[made])
    if not is_in_keyring(settings.key_system):
        return _init_beside(arguments, session)
    new = _new_passphrase(arguments) if arguments.passphrase else None
    path = session.keyring.path
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
        data["origin"] = _init_log(arguments, session)
        lines.append(f"made the audit log {data['origin']}, its key in {signer_dir}")
    if not has_keys:
        for ref in _first_keys(session, new):
            data["keys"].append({"name": ref.name, "version": ref.version})
            lines.append(f"made key {ref}")
        lines.append(f"in {path}: keep a copy where nobody else can read it")
    return Result(data=data, lines=lines)


def _init_beside(arguments: argparse.Namespace, session: Session) -> Result:
    """Make the audit log's key; how to make the others is said."""
    from airflow_secure_ml.adapters.log_signer import KEY_FILE

    settings = session.settings
    signer_dir = settings.audit_signer_dir
    ways = [
        f"make key {name} there: {_elsewhere_made(session, name, purpose)}"
        for name, purpose in ((settings.data_key, "wrap"), (settings.signing_key, "sign"))
    ]
    if (signer_dir / KEY_FILE).exists():
        raise ConfigurationError(
            f"{signer_dir / KEY_FILE}: expected nothing, found the audit log's key; it stays as it "
            f"is. Keys lie elsewhere, and are made there: {'; '.join(ways)}"
        )
    data: dict[str, Any] = {"keyring": None, "signer_dir": str(signer_dir), "keys": []}
    data["origin"] = _init_log(arguments, session)
    made = f"made the audit log {data['origin']}, its key in {signer_dir}"
    return Result(data=data, lines=[made, *ways])


def _init_log(arguments: argparse.Namespace, session: Session) -> str:
    """Make the audit log's keys; returns its origin."""
    from airflow_secure_ml.adapters.log_signer import init_log
    from airflow_secure_ml.commands.log_keys import key_elsewhere

    settings = session.settings
    return init_log(
        settings.audit_signer_dir,
        settings.audit_log_name,
        at=key_elsewhere(settings),
        post_quantum=arguments.post_quantum,
    )


def _elsewhere_made(session: Session, name: str, purpose: str) -> str:
    """What makes a key where its name lies."""
    settings = session.settings
    address = settings.key_names.get(name, settings.key_system)
    if is_in_keyring(address):
        return "it lies in a keyring, by key_names"
    return how_to_make(
        address,
        name,
        purpose,
        vault_conn_id=settings.vault_conn_id,
        aws_conn_id=settings.aws_conn_id,
    )


def _keyring(session: Session, name: str, purpose: str | None = None) -> LocalKeyring:
    """The keyring, if that is where a name lies.

    Raises:
        ConfigurationError: It lies in Vault; says what makes it there.
    """
    settings = session.settings
    address = settings.key_names.get(name, settings.key_system)
    if is_in_keyring(address):
        return session.keyring
    own = "that system's own tool does that"
    way = own if purpose is None else _elsewhere_made(session, name, purpose)
    raise ConfigurationError(
        f"key {name}: expected one of the keyring, found that it lies elsewhere: {way}. Its "
        "versions are made by `keys rotate`, and retired by KeyUsageOperator"
    )


def _first_keys(session: Session, passphrase: Secret | None) -> list[KeyRef]:
    (first, purpose), *others = FIRST_KEYS
    more = {"purpose": ", ".join(f"{name}: {kind}" for name, kind in FIRST_KEYS)}
    more["keyring"] = str(session.keyring.path)
    with session.act("key.create", key={"system": SYSTEM, "name": first}, more=more) as outcome:
        made = session.keyring.init(((first, purpose), *others), passphrase=passphrase)
        outcome.key = key_facts(made[0])
        outcome.more["count"] = len(made)
    return made


def create(arguments: argparse.Namespace, session: Session) -> Result:
    """Make a key."""
    name, purpose = arguments.name, arguments.purpose
    if is_in_token(session.settings.key_names.get(name, session.settings.key_system)):
        return _create_in_token(session, name, purpose)
    return _changed(
        session,
        "key.create",
        name,
        lambda: _keyring(session, name, purpose).create(
            name, purpose, post_quantum=arguments.post_quantum
        ),
        f"made key {{}} to {purpose}",
        purpose=purpose,
    )


def _create_in_token(session: Session, name: str, purpose: str) -> Result:
    key = {"system": "pkcs11", "name": name}
    with session.act("key.create", key=key, more={"purpose": purpose}) as outcome:
        ref = session.keys.create(name, purpose)
        outcome.key = key_facts(ref)
    data = {"key": ref.name, "version": int(ref.version)}
    return Result(data=data, lines=[f"made key {ref} to {purpose}, in the token"])


def passphrase(arguments: argparse.Namespace, session: Session) -> Result:
    """Put the keyring under a passphrase, or another one, or out of it."""
    keyring = session.keyring
    if arguments.remove and arguments.passphrase_file:
        raise ConfigurationError("expected --remove or --passphrase-file, found both")
    new = None if arguments.remove else _new_passphrase(arguments)
    word = "removed" if new is None else "changed" if keyring.has_passphrase else "set"
    facts = {"system": SYSTEM, "name": "*"}
    with session.act("key.protect", key=facts, more={"state": word}):
        keyring.change_passphrase(new)
    line = f"{word} the passphrase of {keyring.path}; copies of the file are as they were"
    return Result(data={"keyring": str(keyring.path), "passphrase": word}, lines=[line])


def _new_passphrase(arguments: argparse.Namespace) -> Secret:
    """From a file, or typed twice."""
    if not arguments.passphrase_file:
        return ask_new_passphrase()
    return read_passphrase(Path(arguments.passphrase_file).absolute())


def retire(arguments: argparse.Namespace, session: Session) -> Result:
    """Let a key only open and verify."""
    return _state(arguments, session, "key.disable", LocalKeyring.retire, "retired")


def enable(arguments: argparse.Namespace, session: Session) -> Result:
    """Let a key work again."""
    return _state(arguments, session, "key.disable", LocalKeyring.enable, "enabled")


def disable(arguments: argparse.Namespace, session: Session) -> Result:
    """Let a key do nothing for now."""
    return _state(arguments, session, "key.disable", LocalKeyring.disable, "disabled")


def destroy(arguments: argparse.Namespace, session: Session) -> Result:
    """Remove a key's bytes, forever."""
    ask(
        f"Destroy {arguments.name}? What only it opens is lost forever. Its name to go on: ",
        answer=arguments.name,
        refused=f"{arguments.name}: not destroyed",
        yes=arguments.yes,
    )
    return _state(arguments, session, "key.destroy", LocalKeyring.destroy, "destroyed")


def list_keys(arguments: argparse.Namespace, session: Session) -> Result:
    """Show keys, versions and states."""
    data = []
    if is_in_keyring(session.settings.key_system):
        data += [
            _row(key.name, key.purpose, version.number, version.state, version.created)
            for key in session.keyring.list_keys()
            for version in key.versions
        ]
    for name in _elsewhere(session):
        data += _rows_of(session, name)
    width = max((len(str(each["name"])) for each in data), default=0)
    lines = [
        f"{each['name']:<{width}}  {each['version']:>3}  {each['purpose']:<9}  "
        f"{each['state']:<9}  {each['created']}"
        for each in data
    ]
    return Result(data=data, lines=lines)


def _elsewhere(session: Session) -> list[str]:
    """The names of the settings that lie elsewhere than in the keyring; nothing else is known."""
    settings = session.settings
    named = [settings.data_key, settings.signing_key, *settings.trusted_signers]
    if settings.xcom_key:
        named.append(settings.xcom_key)
    by_default = [] if is_in_keyring(settings.key_system) else named
    return list(dict.fromkeys([*by_default, *settings.key_names]))


def _rows_of(session: Session, name: str) -> list[dict[str, Any]]:
    try:
        versions = session.keys.versions(name)
    except PolicyError:
        return [_row(name, "-", 0, "missing", "")]
    except ServiceRefusedError:
        return [_row(name, "-", 0, "not shown", "")]
    try:
        is_public = session.keys.recipient(name) is not None
        if not is_public:
            session.keys.unwrappers([name])
        purpose = "recipient" if is_public else "wrap"
    except (PolicyError, ConfigurationError):
        purpose = "sign"
    return [
        _row(
            name,
            purpose,
            each.number,
            each.state,
            "" if each.created is None else each.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        for each in versions
    ]


def _row(name: str, purpose: str, version: int, state: str, created: str) -> dict[str, Any]:
    return {
        "name": name,
        "purpose": purpose,
        "version": version,
        "state": state,
        "created": created,
    }


def export_public(arguments: argparse.Namespace, session: Session) -> Result:
    """Print the public half of a key to receive with, or the public halves of a sign key."""
    # Wherever the key lies.
    recipient = session.keys.recipient(arguments.name)
    if recipient is not None:
        text = recipient_text(recipient)
    else:
        text = public_text(list(session.keys.verifiers([arguments.name]))[::-1])
    return Result(data={"name": arguments.name, "public": text}, lines=text.splitlines())


def trust(arguments: argparse.Namespace, session: Session) -> Result:
    """Accept somebody else's signatures, or seal to them."""
    text = _read_text(arguments.file)
    name = arguments.name
    is_recipient = text.startswith(SCHEME)
    return _changed(
        session,
        "key.create",
        name,
        lambda: _keyring(session, name).trust(name, text),
        "sealing to {} from now on" if is_recipient else "trusting signatures of {}",
        purpose="recipient" if is_recipient else "trust",
    )


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
    change: Callable[[LocalKeyring, str, int | None], KeyRef],
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
        change(_keyring(session, name), name, number)
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

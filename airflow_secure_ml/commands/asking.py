"""Ask a person: before what cannot be undone, where only `--yes` goes on without one, and for a
passphrase, which is never an argument.
"""

from __future__ import annotations

import contextlib
import getpass
import sys

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError


def ask(question: str, *, answer: str, refused: str, yes: bool) -> None:
    """Return if it may be done.

    Args:
        question: What is asked, on standard error.
        answer: What must be typed.
        refused: What the error says if something else is.
        yes: Whether `--yes` was given; then nobody is asked.

    Raises:
        ConfigurationError: Another answer, or nobody there to give one.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{refused}: nobody is there to ask; say --yes to go on")
    sys.stderr.write(question)
    sys.stderr.flush()
    if sys.stdin.readline().strip() != answer:
        raise ConfigurationError(refused)


def ask_passphrase(question: str = "Passphrase of the keyring: ") -> Secret:
    """What a person types at the terminal, unseen.

    Raises:
        ConfigurationError: Nobody is there, or what is typed is no text.
    """
    # From a pipe getpass would read, and warn, in place of the data that stands there.
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "the keyring is under a passphrase, and nobody is there to ask; set [secure_ml] "
            "keyring_passphrase_path to a file (0600) that holds it"
        )
    # Not as the refusal's cause: it would carry what was typed along.
    with contextlib.suppress(UnicodeDecodeError, EOFError):
        return Secret(getpass.getpass(question))
    raise ConfigurationError(
        "passphrase: expected a line of text in the terminal's encoding, found none"
    )


def ask_new_passphrase() -> Secret:
    """A new passphrase, typed twice.

    Raises:
        ConfigurationError: Nobody is there, or two different ones.
    """
    first = ask_passphrase("New passphrase of the keyring: ")
    if ask_passphrase("The same again: ") != first:
        raise ConfigurationError("two different passphrases were typed; nothing was changed")
    return first

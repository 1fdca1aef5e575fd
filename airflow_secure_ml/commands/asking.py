"""Ask a person before what cannot be undone; without one, only `--yes` goes on."""

from __future__ import annotations

import sys

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

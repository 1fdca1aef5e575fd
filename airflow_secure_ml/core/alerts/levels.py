"""How grave an alert may be, in the words of Sigma."""

from __future__ import annotations

LEVELS = ("informational", "low", "medium", "high", "critical")
# Those that no rule raises, by the beginning of what they are about.
_OF_CHECKS = {
    "checkpoint": "critical",
    "coverage.": "high",
    "vault.": "high",
}


def level_of(level: object, about: str) -> str:
    """An alert's level.

    Args:
        level: What its event says; whatever a task may have written.
        about: What it is about, where it says nothing.
    """
    if isinstance(level, str) and level in LEVELS:
        return level
    found = (level for start, level in _OF_CHECKS.items() if about.startswith(start))
    return next(found, "medium")

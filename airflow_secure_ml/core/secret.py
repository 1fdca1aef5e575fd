"""A text that must not be shown: masked where it could be printed, and never pickled."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """A secret text; only `reveal` gives it away.

    Args:
        text: What is secret.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # An error about a text that has no bytes would carry the text.
        ours, theirs = (one._text.encode("utf-8", "surrogatepass") for one in (self, other))
        return hmac.compare_digest(ours, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        # A pickle would carry it into an XCom or a queue.
        raise TypeError("a Secret cannot be pickled; pass the name of the credential instead")

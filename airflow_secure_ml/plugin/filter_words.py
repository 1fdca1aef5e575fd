r"""Take the filter box apart into words, and write words so that they come back unchanged.

Pure. Each word knows where it stands, so that a problem can point at it. What would hide or
reorder text stands in the box as an escape, `"\u202e"`, and is searched for as what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute

from airflow_secure_ml.plugin.wording import escaped, is_unseen

MAX_FILTER_CHARS = 2000

_WORD = re.compile(
    r'(?:(?P<field>-?[a-z]+):(?!//))?(?:"(?P<quoted>(?:[^"\\]|\\.)*)(?P<end>"?)|(?P<bare>\S+))',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One word of a filter.

    Attributes:
        field: What stands before the colon; empty for a word to search for.
        value: What stands behind it, without quotes and escapes.
        is_excluded: Whether a `-` before the field asks for events without it.
        start: Where the word begins in the box, characters.
        stop: Where it ends.
    """

    field: str
    value: str
    is_excluded: bool = False
    start: int = attribute(default=0, compare=False)
    stop: int = attribute(default=0, compare=False)

    def __str__(self) -> str:
        value = self.value
        if not value or any(_needs_quotes(char) for char in value) or self._is_misread():
            value = '"' + "".join(_quoted(char) for char in value) + '"'
        sign = "-" if self.is_excluded else ""
        return f"{sign}{self.field}:{value}" if self.field else value

    def _is_misread(self) -> bool:
        # `file://x` is an address and no field, so `object://x` would be one too.
        return self.value.startswith("//") if self.field else ":" in self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A place in the box that was not understood.

    Attributes:
        text: What is wrong and what would be right, a sentence for the reader.
        start: Where in the box the place begins, characters.
        stop: Where it ends.
        instead: The whole box as it was perhaps meant; empty if nobody can tell.
    """

    text: str
    start: int
    stop: int
    instead: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of the box, for showing problems in their place."""

    text: str
    is_wrong: bool


def words(text: str) -> tuple[list[Token], list[Problem]]:
    """The words of a box's content, whatever their fields are called.

    Returns:
        The words that can be read, and what is wrong with the others.
    """
    tokens: list[Token] = []
    problems: list[Problem] = []
    for found in _WORD.finditer(text):
        start, stop = found.span()
        name, quoted = found["field"] or "", found["quoted"]
        if quoted is not None and not found["end"]:
            closed = text[:stop] + '"' + text[stop:]
            problems.append(
                Problem(
                    text='this quotation has no end; close it with "',
                    start=start,
                    stop=stop,
                    instead=closed,
                )
            )
            continue
        value = found["bare"] if quoted is None else _ESCAPE.sub(_meant, quoted)
        tokens.append(
            Token(
                field=name.removeprefix("-"),
                value=value,
                is_excluded=name.startswith("-"),
                start=start,
                stop=stop,
            )
        )
    return tokens, problems


def joined(tokens: Iterable[Token]) -> str:
    """A box's content made of words."""
    return " ".join(str(token) for token in tokens)


def filter_of(*pairs: tuple[str, str]) -> str:
    """A box's content made of (field, value)."""
    return joined(Token(field=field, value=value) for field, value in pairs)


def cleaned(text: str) -> str:
    """A box's content, with what would hide or reorder text written as escapes."""
    text = text[:MAX_FILTER_CHARS].strip()
    if not any(is_unseen(char) for char in text):
        return text
    tokens, problems = words(text)
    return "".join(escaped(char) for char in text) if problems else joined(tokens)


def parts(text: str, problems: Sequence[Problem]) -> tuple[Part, ...]:
    """A box's content in pieces, those with a problem apart; their texts joined are the content."""
    found: list[Part] = []
    at = 0
    for problem in sorted(problems, key=lambda problem: problem.start):
        start = max(problem.start, at)
        found.append(Part(text=text[at:start], is_wrong=False))
        found.append(Part(text=text[start : problem.stop], is_wrong=True))
        at = max(problem.stop, at)
    found.append(Part(text=text[at:], is_wrong=False))
    return tuple(part for part in found if part.text)


def _meant(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    if digits is None:
        return escape[3]
    code = int(digits, 16)
    # No half of a surrogate pair: the store's parameters are UTF-8.
    return chr(code) if code < 0xD800 or 0xE000 <= code < 0x110000 else escape[0]


def _needs_quotes(char: str) -> bool:
    return char in '"\\' or is_unseen(char) or char.isspace()


def _quoted(char: str) -> str:
    return "\\" + char if char in '"\\' else escaped(char)

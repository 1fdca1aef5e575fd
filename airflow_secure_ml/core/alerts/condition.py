"""Read a rule's condition: `selection and not 1 of filter*`.

Source: Sigma 2.1, Condition: or, and, not, x of, brackets, from least to most binding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_secure_ml.core.alerts.matching import All, AnyOf, Expression, Not
from airflow_secure_ml.errors import ConfigurationError

_TOKEN = re.compile(r"\s*(\(|\)|[A-Za-z0-9_*]+)")
# A condition of a thousand brackets would end the interpreter's stack.
MAX_TOKENS = 100
_WORDS = frozenset({"and", "or", "not", "of", "(", ")"})


def parse_condition(text: str, selections: Mapping[str, Expression]) -> Expression:
    """Read a condition.

    Args:
        text: As the rule has it.
        selections: The rule's search identifiers, by name.

    Raises:
        ConfigurationError: It names something else, or is no condition.
    """
    parser = _Parser(_tokens(text), selections)
    found = parser.either()
    parser.end()
    return found


def _tokens(text: str) -> list[str]:
    if "|" in text:
        raise _wrong("found `|`: count() and near are gone from Sigma; use a correlation")
    found, at = [], 0
    while text[at:].strip():
        token = _TOKEN.match(text, at)
        if token is None:
            raise _wrong(f"found {text[at : at + 20].strip()!r}")
        found.append(token[1])
        at = token.end()
    if len(found) > MAX_TOKENS:
        raise _wrong(f"{len(found)} words, at most {MAX_TOKENS}")
    return found


def _wrong(found: str) -> ConfigurationError:
    return ConfigurationError(f"condition: {found}; expected such as `selection and not filter`")


class _Parser:
    def __init__(self, tokens: list[str], selections: Mapping[str, Expression]) -> None:
        self._tokens, self._selections = tokens, selections

    def _take(self, *words: str) -> bool:
        if self._tokens and self._tokens[0].lower() in words:
            self._tokens.pop(0)
            return True
        return False

    def end(self) -> None:
        if self._tokens:
            raise _wrong(f"found {self._tokens[0]!r} where it should end")

    def either(self) -> Expression:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else AnyOf(parts=tuple(parts))

    def _both(self) -> Expression:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(parts=tuple(parts))

    def _one(self) -> Expression:
        if self._take("not"):
            return Not(part=self._one())
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise _wrong("a bracket is not closed")
            return inner
        return self._named()

    def _named(self) -> Expression:
        if not self._tokens:
            raise _wrong("it ends too early")
        word = self._tokens.pop(0)
        if self._take("of"):
            return self._some(word)
        if word.lower() in _WORDS or word not in self._selections:
            raise _wrong(f"{word!r} is no selection of this rule")
        return self._selections[word]

    def _some(self, word: str) -> Expression:
        if word.lower() not in ("1", "all") or not self._tokens:
            raise _wrong(f"`{word} of`: only `1 of` and `all of` are known here")
        wanted = self._tokens.pop(0)
        pattern = "*" if wanted.lower() == "them" else wanted
        shape = re.compile(re.escape(pattern).replace(r"\*", ".*"))
        parts = tuple(
            selection
            for name, selection in self._selections.items()
            if shape.fullmatch(name) and (pattern != "*" or not name.startswith("_"))
        )
        if not parts:
            raise _wrong(f"{wanted!r} fits no selection of this rule")
        return All(parts=parts) if word.lower() == "all" else AnyOf(parts=parts)

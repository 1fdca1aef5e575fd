"""Where a sealed XCom value belongs, as an encryption context, and how it lies in a JSON column.

The context binds DAG, run, task, map index and key, so that a value opens at its own place only.
That it is the newest of its place is not proven.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.sealed_file.context import MAX_VALUE_BYTES
from airflow_secure_ml.errors import FormatError, IntegrityError

MARK = "secure_ml_xcom"
VERSION = 1
USE = {"use": "xcom"}
# Airflow's scheduler reads it from the database by itself, and would not skip what it cannot read.
SKIP_KEY = "skipmixin_key"
_SKIP_WORDS = ("skipped", "followed")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_FOLDERS = re.compile(r"[^A-Za-z0-9_-]")
_MAX_FOLDER_NAME = 80
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an XCom value stands.

    Attributes:
        dag_id: The DAG.
        task_id: The task that wrote it.
        key: Its key.
        run_id: The run; None where a reader takes any.
        map_index: -1 if unmapped; None where a reader takes any.
    """

    dag_id: str
    task_id: str
    key: str
    run_id: str | None
    map_index: int | None

    def context(self) -> dict[str, str]:
        """The pairs of the encryption context; what is None is left out."""
        given = {
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "key": self.key,
            "run_id": self.run_id,
            "map_index": None if self.map_index is None else str(self.map_index),
        }
        pairs = (_pair(name, text) for name, text in given.items() if text is not None)
        return {**USE, **dict(pairs)}

    def __str__(self) -> str:
        return (
            f"XCom {_shown(self.key)} of task {_shown(self.task_id)} in DAG {_shown(self.dag_id)}"
        )


def key_context(dag_id: str) -> dict[str, str]:
    """The context of a DAG's own data-set key."""
    return {**USE, **dict([_pair("dag_id", dag_id)])}


def key_folder(dag_id: str) -> str:
    """The name of a DAG's folder of keys: readable, without separators, one for each DAG."""
    readable = _NOT_IN_FOLDERS.sub("_", dag_id)[:_MAX_FOLDER_NAME]
    return f"{readable}-{_sha256(dag_id)[:32]}"


def envelope(sealed: bytes) -> dict[str, Any]:
    """A sealed value as Airflow stores it."""
    return {MARK: VERSION, "sealed": base64.b64encode(sealed).decode("ascii")}


def sealed_in(value: Any) -> bytes | None:
    """The sealed bytes in a stored value; None: it was not sealed.

    Raises:
        FormatError: An envelope of another version, or a broken one.
    """
    if not isinstance(value, Mapping) or MARK not in value:
        return None
    version, text = value[MARK], value.get("sealed")
    if version != VERSION or isinstance(version, bool):
        raise FormatError(
            f"sealed value of version {str(version)[:_MAX_SHOWN]}, this release reads {VERSION}; "
            "upgrade airflow-secure-ml"
        )
    if len(value) != 2 or not isinstance(text, str):
        raise FormatError("sealed value: expected its version and its bytes, found other fields")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError("sealed value: its bytes are not base64") from error


def stays_clear(key: str | None, value: Any) -> bool:
    """Whether Airflow itself has to read this value: names of tasks to skip, and nothing else."""
    if key != SKIP_KEY or not isinstance(value, Mapping) or len(value) != 1:
        return False
    ((word, names),) = value.items()
    listed = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return word in _SKIP_WORDS and listed


def map_index_of(context: Mapping[str, str]) -> int:
    """The map index in an authenticated context."""
    try:
        return int(context["map_index"])
    except (KeyError, ValueError) as error:
        raise FormatError("sealed value: its context names no map index") from error


def check_order(seen: int, after: int | None, step: int) -> None:
    """Return if a value may follow another in a sequence.

    Args:
        seen: Its map index.
        after: The one before; None: it is the first.
        step: 1 ascending, -1 descending, 0 ascending with repetitions (several runs).

    Raises:
        IntegrityError: It may not.
    """
    if after is None:
        return
    if not (seen >= after if step == 0 else seen > after if step > 0 else seen < after):
        raise IntegrityError(
            f"map index {seen} follows {after}; the values of a mapped task were copied or "
            "exchanged in the database"
        )


def _pair(name: str, text: str) -> tuple[str, str]:
    """A pair of the context; a digest, under another name, where the format takes no such text."""
    encoded = text.encode("utf-8", "surrogatepass")
    try:
        text.encode("utf-8")
        fits = len(encoded) <= MAX_VALUE_BYTES and not _CONTROL.search(text)
    except UnicodeEncodeError:
        fits = False
    return (name, text) if fits else (f"{name}.sha256", _sha256(text))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")

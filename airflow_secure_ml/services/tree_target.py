"""What lies where a tree goes: only what an earlier run of the same put there is worked on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from airflow_secure_ml.errors import MAX_NAMES, PolicyError
from airflow_secure_ml.services.tree_work import Tree


def require_exactly(target: Tree, names: Collection[str]) -> None:
    """Return if these files lie there and no others.

    Raises:
        PolicyError: Another does (address_taken), or one is gone (output_missing).
    """
    there = require_none_but(target, set(names))
    gone = sorted(set(names) - there)
    if gone:
        raise PolicyError(
            f"{target.uri}: {len(gone)} files were written and are not there any more: "
            f"{_listed(gone)}; start again to write them anew",
            why="output_missing",
        )


def require_none_but(target: Tree, names: set[str]) -> set[str]:
    """The files there; PolicyError (address_taken) if one has none of these names."""
    strange = _there(target) - names
    for path in {path.rpartition("/")[0]: path for path in strange}.values():
        # Whoever begins an object removes what killed writers left aside of it.
        target.store.create(target.child(path)).abort()
    there = _there(target)
    if there - names:
        raise taken(target, sorted(there - names))
    return there


def taken(target: Tree, names: Sequence[str]) -> PolicyError:
    """The refusal to work where something else lies."""
    return PolicyError(
        f"{target.uri}: expected what was made from this source and nothing else, found "
        f"{len(names)} other files: {_listed(names)}; they stay as they are: choose another "
        "place, or remove them",
        why="address_taken",
    )


def _there(target: Tree) -> set[str]:
    info = target.store.info(target.uri)
    if info is None:
        return set()
    if not info.is_directory:
        raise PolicyError(
            f"{target.uri}: expected a folder or nothing, found a file", why="address_taken"
        )
    return set(target.store.walk(target.uri))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:MAX_NAMES]))
    return f"{shown} and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else shown

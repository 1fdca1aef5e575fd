"""What a body made at the path it was given: one file or one directory, and nothing beside it.

Links, devices and pipes are refused: what they lead to is not what the body made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.promised_outputs import OURS
from airflow_secure_ml.services.run_plan import Output


def identity_of(made: Path) -> tuple[int, int, int, int] | None:
    """What tells that a file is as it was; None: nothing is there any more."""
    try:
        found = os.lstat(made)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def kind_of(item: Output, made: Path) -> str:
    """What the body made: `file` or `directory`, and nothing beside it."""
    if any(os.path.islink(folder) for folder in (made.parent, made.parent.parent)):
        raise PolicyError(
            f"{item.name}: the folder it was to be made in is a link now; write to the path that "
            "was given",
            why="output_outside",
        )
    try:
        mode = os.lstat(made).st_mode
    except FileNotFoundError as error:
        raise PolicyError(
            f"{item.name}: the body made nothing at the path it was given; write a file or make "
            "a directory exactly there",
            why="output_missing",
        ) from error
    beside = sorted(set(os.listdir(made.parent)) - {made.name})
    if beside:
        raise PolicyError(
            f"{item.name}: the body made {len(beside)} more beside the path it was given; write "
            "one file there, or make a directory of that name and write into it",
            why="output_unexpected",
        )
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    raise PolicyError(
        f"{item.name}: expected a file or a directory, found a link, device or pipe; copy the "
        "data itself",
        why="output_outside",
    )


def files_below(item: Output, made: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file that the body made; links and devices are refused."""
    if os.path.lexists(made / OURS):
        raise PolicyError(
            f"{item.name}: its directory holds {OURS!r}, a name that is kept for the keys of a "
            "sealed directory; use another",
            why="output_unexpected",
        )
    for folder, folders, files in os.walk(made, onerror=_raise):
        folders.sort()
        for name in sorted([*files, *(f for f in folders if os.path.islink(Path(folder, f)))]):
            place = Path(folder, name)
            if not stat.S_ISREG(os.lstat(place).st_mode):
                raise PolicyError(
                    f"{item.name}: its directory holds a link, device or pipe; copy the data "
                    "itself",
                    why="output_outside",
                )
            yield place.relative_to(made).as_posix(), place


def _raise(error: OSError) -> None:
    raise error

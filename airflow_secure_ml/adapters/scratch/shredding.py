"""Remove a scratch directory, whatever its body left in it and whoever still writes to it.

Bytes are unlinked, not overwritten: tmpfs gives its pages back zeroed, and elsewhere overwriting
proves nothing (journals, copies on write, flash). No symlink is ever followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from pathlib import Path

MARKER = ".owner"
MARKER_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_RETRY_S = 0.005


def shred_tree(root: Path, *, deadline_s: float) -> bool:
    """Remove a tree that others may still be writing to.

    Args:
        root: A directory; a symlink in its place is left alone.
        deadline_s: How long to go on.

    Returns:
        Whether nothing is left.
    """
    until = time.monotonic() + deadline_s
    # Out of the way first: who holds the old path can neither read nor add anything from now on.
    gone = _moved_away(root)
    while True:
        if gone != root and is_directory(root):
            try:
                os.rename(root, gone)
            except OSError:
                _remove(root)
        _remove(gone)
        if not is_there(root):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_RETRY_S)


def is_there(root: Path) -> bool:
    """Whether anything is left of a tree, at its place or moved away for shredding."""
    return is_directory(root) or is_directory(_moved_away(root))


def hold_marker(root: Path) -> int:
    """Hold a directory against `sweep` too; returns the descriptor that does."""
    marker = os.open(root / MARKER, MARKER_FLAGS)
    fcntl.flock(marker, fcntl.LOCK_SH)
    return marker


def _moved_away(root: Path) -> Path:
    return root if root.name.endswith(".gone") else root.with_name(root.name + ".gone")


def _remove(root: Path) -> None:
    """Remove what can be removed of a tree, however deep, in constant stack and descriptors."""
    handle = _open_directory(root, None)
    if handle is None:
        return
    try:
        fresh = 0
        while entries := [entry.name for entry in os.scandir(handle)]:
            before = fresh
            for name in entries:
                fresh = _remove_entry(name, handle, fresh)
            # Only what others wrote meanwhile, or what cannot be removed, is left: try again later.
            if fresh == before:
                break
        with contextlib.suppress(OSError):
            os.rmdir(root)
    finally:
        os.close(handle)


def _remove_entry(name: str, top: int, fresh: int) -> int:
    inner = _open_directory(name, top)
    if inner is None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=top)
        return fresh
    try:
        for entry in os.scandir(inner):
            child = _open_directory(entry.name, inner)
            with contextlib.suppress(OSError):
                if child is None:
                    os.unlink(entry.name, dir_fd=inner)
                    continue
                os.close(child)
                # Up to the top instead of down into it: a body may nest past any recursion limit.
                os.rename(entry.name, f"asml.{fresh}", src_dir_fd=inner, dst_dir_fd=top)
                fresh += 1
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(inner)
    return fresh


def _open_directory(name: str | Path, within: int | None) -> int | None:
    """Open a directory and make it removable; None: it is none (a symlink to one is none)."""
    try:
        mode = os.stat(name, dir_fd=within, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            return None
        if mode & 0o700 != 0o700:
            os.chmod(name, 0o700, dir_fd=within)
        return os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within
        )
    except OSError:
        return None


def is_directory(path: Path) -> bool:
    """Whether a directory of this user's, not a symlink to one, is there."""
    try:
        found = os.lstat(path)
        # In /dev/shm anybody may make a directory with our name and hope that we wait for it.
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    except FileNotFoundError:
        return False

"""The collector's socket in the file system, and who may stand behind it.

A sender believes no socket but one in a directory that belongs to another user than itself, below
directories that nobody else may change, and only if that very user answers. So neither a task nor
a third user can put a socket of their own in its place.

Source: AUDIT_TRAIL, What it proves: the collector of another UID.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

# By path alone: a sender need not be able to list what it goes through.
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# pid uid gid
PEER: Final = struct.Struct("iII")
_BACKLOG = 128


def open_door(path: Path, mode: int) -> socket.socket:
    """Make the listening socket, in place of one that a collector before left.

    Args:
        path: The socket's path; its directory is there, and belongs to this user.
        mode: The socket's mode: who may connect, beside what its directory allows.

    Raises:
        OSError: The directory is not as `connect_to` demands it, or something else has the name.
    """
    folder = _open_folder(path)
    try:
        owner = os.fstat(folder).st_uid
        if owner != os.geteuid():
            raise OSError(errno.EPERM, f"{path.parent}: belongs to uid {owner}, not to this one")
        _remove_socket(folder, path)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # Each piece of what comes in says who wrote it, though a descriptor is handed on.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        before = os.umask(0o177)
        try:
            door.bind(os.fspath(path))
        finally:
            os.umask(before)
        os.chmod(path.name, mode, dir_fd=folder)
        door.listen(_BACKLOG)
        door.setblocking(False)
    finally:
        os.close(folder)
    return door


def connect_to(path: Path, timeout_s: float) -> socket.socket:
    """Connect to the collector, if it is one that this process may believe.

    Raises:
        OSError: EPERM: who stands there, or could, is not to be believed. Else: nobody answers.
    """
    folder = _open_folder(path)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        owner = os.fstat(folder).st_uid
        if owner == os.geteuid():
            raise OSError(
                errno.EPERM,
                f"{path.parent}: belongs to this very user (uid {owner}), so it proves nothing; "
                "the collector runs as another user, in a directory of its own",
            )
        line.settimeout(timeout_s)
        # Nobody but root and its owner could have changed what was looked at.
        line.connect(os.fspath(path))
        _, uid, _ = PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        if uid != owner:
            raise OSError(
                errno.EPERM, f"{path}: uid {uid} answers, its directory belongs to uid {owner}"
            )
    except BaseException:
        line.close()
        raise
    finally:
        os.close(folder)
    return line


def _open_folder(path: Path) -> int:
    """Open the socket's directory, from the root on, through no link and nothing unsafe."""
    if not path.is_absolute():
        raise OSError(errno.EINVAL, f"{path}: expected an absolute path")
    folder = os.open("/", _FOLDER)
    try:
        parts = path.parent.parts[1:]
        owner = os.stat(path.parent, follow_symlinks=False).st_uid
        _check_folder(folder, owner, "/", is_last=not parts)
        for at, name in enumerate(parts):
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
            is_last = at == len(parts) - 1
            _check_folder(folder, owner, "/" + "/".join(parts[: at + 1]), is_last=is_last)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _check_folder(folder: int, owner: int, path: str, *, is_last: bool) -> None:
    """Refuse a directory in which somebody else could put something in the place of the next."""
    found = os.fstat(folder)
    may_change = found.st_mode & 0o022
    # In a sticky directory nobody renames or removes what is another's.
    is_shared = bool(may_change) and (is_last or not found.st_mode & stat.S_ISVTX)
    if found.st_uid not in {0, owner} or is_shared:
        raise OSError(
            errno.EPERM,
            f"{path}: uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}; expected a "
            f"directory of root or of uid {owner} that nobody else may write to",
        )


def _remove_socket(folder: int, path: Path) -> None:
    try:
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, f"{path}: is there and no socket; remove it")
    os.unlink(path.name, dir_fd=folder)

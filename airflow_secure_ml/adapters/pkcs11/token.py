"""One token, logged in to once in a process, and asked one thing at a time.

A library of PKCS#11 is a state of the whole process: one lock guards it, a forked child begins
anew, and no fork happens in the middle of a call. A PIN that was refused is not tried again.

Source: PKCS#11 3.0, 5.4 (C_Initialize, forks) and 5.6 (C_Login).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from airflow_secure_ml.adapters.pkcs11.failures import (
    LAST_TRY,
    PIN_LOCKED,
    PIN_REFUSED,
    Kind,
    failure_of,
    refusal,
)
from airflow_secure_ml.adapters.pkcs11.pin_file import read_pin
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError
from airflow_secure_ml.extras import import_extra

T = TypeVar("T")

_lock = threading.RLock()
_libraries: dict[str, Any] = {}
_sessions: dict[tuple[str, str], Any] = {}
# By token, the state of the PIN file whose PIN it refused.
_refused: dict[tuple[str, str], tuple[int, ...]] = {}


def _before_fork() -> None:
    _lock.acquire()


def _after_fork() -> None:
    _lock.release()


def _in_child() -> None:
    """Sessions are the parent's; its library must be initialised again before anything else."""
    global _lock
    _lock = threading.RLock()
    _sessions.clear()
    _inherited.update(_libraries)
    _libraries.clear()


_inherited: dict[str, Any] = {}
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


class Token:
    """A token, by its label.

    Args:
        label: Its label.
        module: Path of the library that leads to it; None: the settings name none.
        pin_path: File with the PIN of its user.
    """

    def __init__(self, label: str, *, module: Path | None, pin_path: Path | None) -> None:
        self.label, self._module, self._pin_path = label, module, pin_path

    def __repr__(self) -> str:
        return f"Token({self.label!r})"

    def use(self, action: str, act: Callable[[Any], T], *, repeatable: bool = True) -> T:
        """Do something in a session whose user is logged in; nobody else does meanwhile.

        Args:
            action: What it is, for messages: `wrap with token/data/1`.
            act: Given python-pkcs11's session; what it raises of that library becomes ours.
            repeatable: Whether it may be done again where a session turns out to have ended.

        Raises:
            ServiceUnavailableError: The token is not there, or failed.
            ServiceRefusedError: It said no, or the PIN is refused.
            ConfigurationError: No library, or it cannot do this.
        """
        errors = import_extra("pkcs11.exceptions", extra="pkcs11")
        with _lock:
            while True:
                try:
                    return act(self._session(action))
                except errors.PKCS11Error as error:
                    failure = failure_of(error)
                    stale = failure.kind in (Kind.STALE, Kind.GONE)
                    if stale:
                        _sessions.pop(self._key, None)
                    if failure.kind is not Kind.STALE or not repeatable:
                        raise failure.as_error(action) from error
                    repeatable = False

    @property
    def _key(self) -> tuple[str, str]:
        return str(self._module), self.label

    def _session(self, action: str) -> Any:
        session = _sessions.get(self._key)
        if session is None:
            session = self._open(action)
            _sessions[self._key] = session
        return session

    def _open(self, action: str) -> Any:
        errors = import_extra("pkcs11.exceptions", extra="pkcs11")
        try:
            token = self._library().get_token(token_label=self.label)
        except errors.MultipleTokensReturned as error:
            raise ConfigurationError(
                f"pkcs11: expected one token labelled {self.label}, found several; give them "
                "labels of their own"
            ) from error
        pin = read_pin(self._pin_path)
        action = f"{action}: log in to {self.label}"
        if _refused.get(self._key) == pin.state:
            raise refusal(action, PIN_REFUSED)
        self._check_tries(token, action)
        try:
            return token.open(rw=True, user_pin=pin.secret.reveal())
        except errors.UserAlreadyLoggedIn:
            # Somebody else in this process is; the login is the process's.
            return token.open(rw=True)
        except errors.PKCS11Error as error:
            failed = failure_of(error).as_error(action)
            if isinstance(failed, ServiceRefusedError):
                _refused[self._key] = pin.state
            raise failed from error

    def _check_tries(self, token: Any, action: str) -> None:
        flags = import_extra("pkcs11", extra="pkcs11").TokenFlag
        if token.flags & flags.USER_PIN_LOCKED:
            raise refusal(action, PIN_LOCKED)
        if token.flags & flags.USER_PIN_FINAL_TRY:
            raise refusal(action, LAST_TRY)

    def _library(self) -> Any:
        if self._module is None:
            raise ConfigurationError(
                "[secure_ml] pkcs11_module: expected the path of the token's PKCS#11 library, "
                "found none"
            )
        path = str(self._module)
        found = _libraries.get(path)
        if found is None:
            found = _libraries[path] = _load(path)
        return found


def _load(path: str) -> Any:
    pkcs11 = import_extra("pkcs11", extra="pkcs11")
    inherited = _inherited.pop(path, None)
    try:
        if inherited is None:
            return pkcs11.lib(path)
        # A library that notices forks is finalised already.
        with contextlib.suppress(pkcs11.PKCS11Error):
            inherited.finalize()
        inherited.initialize()
        return inherited
    except pkcs11.PKCS11Error as error:
        raise ConfigurationError(
            f"[secure_ml] pkcs11_module: {path}: expected a PKCS#11 library that can be loaded; "
            "check the path, and its own configuration"
        ) from error

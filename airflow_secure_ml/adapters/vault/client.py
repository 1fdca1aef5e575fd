"""Ask Vault: log in once, keep the token alive, try again where that is safe, end by a deadline.

One client serves many threads: each has a connection of its own, all share one token, and one
thread at a time gets it. A denial is one denial: only a token that Vault calls invalid leads to
another login, and a login that was refused is not tried again for a while.

Source: FACTS, Vault.
"""

from __future__ import annotations

import copy
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar

import hvac
import requests
import urllib3

from airflow_secure_ml.adapters.vault.failures import (
    LOG_IN,
    SERVICE,
    TOKEN_INVALID,
    Failure,
    Kind,
    failure_of,
)
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.adapters.vault.transport import check_certificates, make_hvac_client
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import SecureMLError, ServiceRefusedError

log = logging.getLogger(__name__)

# A process that ends does not wait long for a Vault that hangs.
_CLOSE_S = 3.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
# A denied login is remembered, so that a thousand look-ups are not a thousand logins.
REFUSED_LOGIN_S = 30.0

Request = Callable[[hvac.Client], Any]
_T = TypeVar("_T")


class Ask(Protocol):
    """Makes one request of a login, and tries it again where that is safe."""

    def __call__(
        self,
        action: str,
        request: Request,
        *,
        token: Secret | None = None,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        """Do one request.

        Args:
            action: What it does, for messages.
            request: Makes it.
            token: The token to send with it; None: none.
            repeatable: Whether it may be sent again when it is not known if it was done.
        """


class Login(Protocol):
    """One way to get a token."""

    def log_in(self, ask: Ask) -> Token:
        """Get a token; errors as in `VaultClient.call`."""


class VaultClient:
    """A Vault server as its callers see it. Nothing is connected before the first `call`.

    Args:
        server: Where it is.
        login: How to get a token.
        clock: Seconds; any zero, never back.
        sleep: Waits so many seconds.
        jitter: A number from 0 to 1.
    """

    def __init__(
        self,
        server: VaultServer,
        login: Login,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.server = server
        self._login = login
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._token: Token | None = None
        self._refused: tuple[float, ServiceRefusedError] | None = None
        # Counts the closings: a login that was under way then must not leave its token.
        self._closings = 0
        self.forget_parent()
        _alive.add(self)

    def forget_parent(self) -> None:
        """Begin anew in a forked child: connections, locks and tokens are the parent's.

        The parent's end would take a shared token away, and the child's leases with it.
        """
        self._lock = threading.RLock()
        self._local = threading.local()
        self._made: list[Token] = []
        # The login that is under way; its event is set when it is over.
        self._under_way: threading.Event | None = None
        if self._token is not None and self._token.ours:
            self._token = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VaultClient cannot be pickled; pass the connection's id instead")

    def call(self, action: str, ask: Request, *, repeatable: bool = True) -> dict[str, Any]:
        """Do one request with a token that holds.

        Args:
            action: What it does, for messages: `wrap a key with transit/data`.
            ask: Makes the request; called again on another try.
            repeatable: Whether it may be sent again when it is not known if it was done.

        Returns:
            The answer's JSON object; {} where there is none.

        Raises:
            ServiceRefusedError: It said no; `reason` is a word of `failures`.
            ServiceUnavailableError: No answer inside the deadline, or an answer that was lost.
            ConfigurationError: Its certificate does not hold, or ours cannot be read.
        """
        until = self._clock() + self.server.deadline_s
        token = self.token(until=until)
        try:
            return self._tried(action, ask, token.value, repeatable, until)
        except ServiceRefusedError as error:
            if error.reason != TOKEN_INVALID:
                raise
            another = self._instead_of(token, until)
            if another is None:
                raise
        # Revoked or expired before its time. Nothing was done with it, so once more, and once only.
        return self._tried(action, ask, another.value, repeatable, until)

    def token(self, *, until: float | None = None) -> Token:
        """The token in use, got or prolonged if need be; errors as in `call`."""
        until = self._clock() + self.server.deadline_s if until is None else until
        while True:
            token = self._token
            if token is not None and not token.is_due(self._clock()):
                return token
            got, waiting_for = self._got_by_one(until)
            if got is not None:
                return got
            if token is not None and not token.has_ended(self._clock()):
                return token
            if not waiting_for.wait(max(0.0, until - self._clock())):
                failure = Failure(kind=Kind.LOST, reason="no token in time")
                raise failure.as_error(LOG_IN, self.server.url)

    def before_login(self, act: Callable[[Ask], _T]) -> _T:
        """Do what needs no token, such as looking at a wrapping token; errors as in `call`."""
        return act(self._asker(self._clock() + self.server.deadline_s))

    def close(self) -> None:
        """Revoke every token that was made here; those that were given stay as they are.

        The next `call` logs in again.
        """
        with self._lock:
            self._closings += 1
            self._token = None
            made = list(self._made)
        for token in made:
            self._revoke(token)
        mine = self._local.__dict__.pop("vault", None)
        if mine is not None:
            mine.adapter.close()

    def _got_by_one(self, until: float) -> tuple[Token | None, threading.Event]:
        """Get the token here, or None and what tells that another thread has done."""
        mine = threading.Event()
        try:
            with self._lock:
                other = self._under_way
                if other is None or other.is_set():
                    self._under_way, other = mine, None
            if other is not None:
                return None, other
            return self._got(until), mine
        finally:
            # An execution_timeout strikes anywhere: whoever waits must not wait for nothing.
            mine.set()
            if self._under_way is mine:
                self._under_way = None

    def _got(self, until: float) -> Token:
        token, now = self._token, self._clock()
        if token is not None and not token.is_due(now):
            return token
        holds = token is not None and not token.has_ended(now)
        try:
            got = self._prolonged(token, until) if token is not None and holds else None
            got = got or self._logged_in(until)
        except SecureMLError:
            if token is None or not holds:
                raise
            return token
        self._token = got
        return got

    def _logged_in(self, until: float) -> Token:
        refused, closings = self._refused, self._closings
        if refused is not None and self._clock() < refused[0]:
            # A copy: each time that one error is raised, it holds another traceback.
            raise copy.copy(refused[1])
        self._local.sent_s = self._clock()
        try:
            token = self._login.log_in(self._asker(until))
        except ServiceRefusedError as error:
            self._refused = (self._clock() + REFUSED_LOGIN_S, copy.copy(error))
            log.warning("%s; not tried again for %.0f s", error, REFUSED_LOGIN_S)
            raise
        token = token.since(self._local.sent_s)
        with self._lock:
            now = self._clock()
            # Older ones may hold leases, so they stay until they end.
            self._made = [one for one in self._made if not one.has_ended(now)]
            self._made += [token] if token.ours else []
            closed = self._closings != closings
        if closed:
            self._revoke(token)
            failure = Failure(kind=Kind.LOST, reason="closed in the meantime")
            raise failure.as_error(LOG_IN, self.server.url)
        self._refused = None
        return token

    def _asker(self, until: float) -> Ask:
        def ask(
            action: str, request: Request, *, token: Secret | None = None, repeatable: bool = True
        ) -> dict[str, Any]:
            return self._tried(action, request, token, repeatable, until)

        return ask

    def _prolonged(self, token: Token, until: float) -> Token | None:
        """The token with a new term; None: it has none, or Vault gives it no more."""
        if not token.renewable:
            return None
        try:
            answer = self._tried("renew its token", _renew_self, token.value, True, until)
        except ServiceRefusedError:
            return None
        renewed = token.renewed(answer).since(self._local.sent_s)
        if not renewed.ttl_s or renewed.is_due(self._clock()):
            return None
        with self._lock:
            self._made = [renewed if one.value == token.value else one for one in self._made]
        return renewed

    def _instead_of(self, token: Token, until: float) -> Token | None:
        """Another token than one that Vault calls invalid; None: the login gives the same."""
        with self._lock:
            # Still to be revoked by `close`: a replica that is behind calls a new token invalid.
            if self._token is not None and self._token.value == token.value:
                self._token = None
        another = self.token(until=until)
        return None if another.value == token.value else another

    def _revoke(self, token: Token) -> None:
        now = self._clock()
        until = now + min(_CLOSE_S, self.server.deadline_s)
        try:
            if token.ours and not token.has_ended(now):
                self._tried("revoke its token", _revoke_self, token.value, True, until)
        except SecureMLError as error:
            if getattr(error, "reason", None) != TOKEN_INVALID:
                # Whoever closes can do no more.
                log.warning("vault: a token was not revoked and ends by itself: %s", error)
        with self._lock:
            self._made = [one for one in self._made if one.value != token.value]

    def _tried(
        self, action: str, ask: Request, token: Secret | None, repeatable: bool, until: float
    ) -> dict[str, Any]:
        tries = 0
        while True:
            try:
                return self._asked(ask, token, until)
            except _VENDORS as error:
                failure, cause = failure_of(error), type(error).__name__
            except OSError:
                # requests says so where a file of certificates is gone.
                check_certificates(self.server)
                raise
            wait_s = self._wait_s(failure, tries)
            may = failure.kind is Kind.BUSY or (failure.kind is Kind.LOST and repeatable)
            if not may or self._clock() + wait_s > until:
                # Its name alone: its text may hold what the request held.
                raise failure.as_error(action, self.server.url) from RuntimeError(cause)
            log.info("%s: %s: %s; again in %.1f s", SERVICE, action, failure.reason, wait_s)
            self._sleep(wait_s)
            tries += 1

    def _wait_s(self, failure: Failure, tries: int) -> float:
        most = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * float(2 ** min(tries, 10)))
        # Never nothing: waiters would come back all at once.
        return (failure.wait_s or 0.0) + most * (0.5 + self._jitter() / 2)

    def _asked(self, ask: Request, token: Secret | None, until: float) -> dict[str, Any]:
        """Ask once, with this thread's own hvac client."""
        vault: hvac.Client | None = getattr(self._local, "vault", None)
        if vault is None:
            vault = self._local.vault = make_hvac_client(self.server, self._clock)
        # Put back at the end: a signal's handler may ask while its thread is asking.
        before = vault.token, vault.adapter.until_s
        try:
            vault.token = "" if token is None else token.reveal()
            vault.adapter.until_s = until
            self._local.sent_s = self._clock()
            # hvac returns a Response where there is no JSON.
            answer = ask(vault)
            return answer if isinstance(answer, dict) else {}
        finally:
            vault.token, vault.adapter.until_s = before


_VENDORS = (
    hvac.exceptions.VaultError,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
)


def _renew_self(vault: hvac.Client) -> Any:
    return vault.auth.token.renew_self()


def _revoke_self(vault: hvac.Client) -> Any:
    return vault.auth.token.revoke_self()


_alive: weakref.WeakSet[VaultClient] = weakref.WeakSet()


def _forget_parents() -> None:
    for client in list(_alive):
        client.forget_parent()


os.register_at_fork(after_in_child=_forget_parents)

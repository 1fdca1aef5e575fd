"""Ask Vault: log in once, keep the token alive, try again where that is safe, end by a deadline.

One client serves many threads: each has a connection of its own, all share one token. A denial is
one denial: only a token that Vault calls invalid leads to another login, and a login that was
refused is not tried again for a while.

Source: FACTS, Vault.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import hvac
import requests

from airflow_secure_ml.adapters.vault.failures import (
    TOKEN_INVALID,
    Failure,
    Kind,
    failure_of,
    failure_of_status,
)
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.errors import SecureMLError, ServiceRefusedError

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
# A denied login is remembered, so that a thousand look-ups are not a thousand logins.
REFUSED_LOGIN_S = 30.0
_USER_AGENT = "airflow-secure-ml"


class Login(Protocol):
    """One way to get a token."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be tried again when no answer came."""

    def log_in(self, vault: hvac.Client) -> Token:
        """Get a token; raises what hvac and requests raise."""


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
        self._forget_process()
        self._token: Token | None = None
        self._refused: tuple[float, SecureMLError] | None = None

    def _forget_process(self) -> None:
        """Begin anew in a forked child: connections and locks are the parent's."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._local = threading.local()
        self._made: list[Token] = []

    def call(
        self, action: str, ask: Callable[[hvac.Client], Any], *, repeatable: bool = True
    ) -> dict[str, Any]:
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
            ConfigurationError: Its certificate does not hold.
        """
        until = self._clock() + self.server.deadline_s
        token = self.token(until=until)
        try:
            return self._tried(action, ask, token, repeatable, until)
        except ServiceRefusedError as error:
            if error.reason != TOKEN_INVALID:
                raise
        # Revoked or expired before its time. Nothing was done with it, so once more, and once only.
        self._drop(token)
        return self._tried(action, ask, self.token(until=until), repeatable, until)

    def token(self, *, until: float | None = None) -> Token:
        """The token in use, got or prolonged if need be; errors as in `call`."""
        if os.getpid() != self._pid:
            self._forget_process()
        until = self._clock() + self.server.deadline_s if until is None else until
        with self._lock:
            now = self._clock()
            if self._token is not None and not self._token.is_due(now):
                return self._token
            if self._refused is not None and now < self._refused[0]:
                raise self._refused[1]
            self._refused = None
            self._token = self._prolonged(until) or self._logged_in(until)
            return self._token

    def close(self) -> None:
        """Revoke every token that was made here; those that were given stay as they are."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            made, self._made, self._token = self._made, [], None
        for token in made:
            until = self._clock() + min(self.server.timeout_s, self.server.deadline_s)
            try:
                self._tried("revoke its token", _revoke_self, token, True, until)
            except SecureMLError:
                # It ends by itself at its TTL; whoever closes can do no more.
                continue
        self._local = threading.local()

    def _logged_in(self, until: float) -> Token:
        began = self._clock()
        try:
            answer = self._tried("log in", self._login.log_in, None, self._login.repeatable, until)
        except ServiceRefusedError as error:
            self._refused = (self._clock() + REFUSED_LOGIN_S, error)
            raise
        token: Token = answer["token"]
        token = token.since(began)
        if token.ours:
            self._made.append(token)
        return token

    def _prolonged(self, until: float) -> Token | None:
        """The token with a new term; None: it has none, or Vault gives it no more."""
        token = self._token
        if token is None or not token.renewable or token.has_ended(self._clock()):
            return None
        began = self._clock()
        try:
            answer = self._tried("renew its token", _renew_self, token, True, until)
        except ServiceRefusedError:
            return None
        renewed = token.renewed(answer).since(began)
        if renewed.is_due(began):
            return None
        self._made = [renewed if one is token else one for one in self._made]
        return renewed

    def _drop(self, token: Token) -> None:
        with self._lock:
            if self._token is token:
                self._token = None

    def _tried(
        self,
        action: str,
        ask: Callable[[hvac.Client], Any],
        token: Token | None,
        repeatable: bool,
        until: float,
    ) -> dict[str, Any]:
        tries = 0
        while True:
            try:
                return _as_object(ask(self._client(token)))
            except _Answered as error:
                failure, cause = error.failure, None
            except (hvac.exceptions.VaultError, requests.RequestException) as error:
                failure, cause = failure_of(error), error
            wait_s = self._wait_s(failure, tries)
            may = failure.kind is Kind.BUSY or (failure.kind is Kind.LOST and repeatable)
            if not may or self._clock() + wait_s > until:
                # Its text may hold what the request held.
                raise failure.as_error(action, self.server.url) from _without_text(cause)
            self._sleep(wait_s)
            tries += 1

    def _wait_s(self, failure: Failure, tries: int) -> float:
        if failure.wait_s is not None:
            return failure.wait_s
        most = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * float(2**tries))
        # Never nothing: waiters would come back all at once.
        return most * (0.5 + self._jitter() / 2)

    def _client(self, token: Token | None) -> hvac.Client:
        """This thread's own hvac client, with a token in it."""
        found: hvac.Client | None = getattr(self._local, "vault", None)
        if found is None:
            found = self._local.vault = make_hvac_client(self.server)
        found.token = "" if token is None else token.value.reveal()
        return found


def make_hvac_client(server: VaultServer) -> hvac.Client:
    """An hvac client without a token that reads nothing from the environment or the home."""
    session = requests.Session()
    # No proxy, .netrc or CA file of the environment: where a token goes is the connection's matter.
    session.trust_env = False
    session.headers["User-Agent"] = _USER_AGENT
    session.verify = server.ca or True
    if server.client_cert is not None:
        cert, key = server.client_cert, server.client_key
        session.cert = cert if key is None else (cert, key)
    return hvac.Client(
        url=server.url,
        token="",  # None would make hvac read ~/.vault-token.
        namespace=server.namespace,
        verify=session.verify,
        cert=session.cert,
        timeout=server.timeout_s,
        # A token is not carried to wherever an answer points.
        allow_redirects=False,
        session=session,
    )


class _Answered(Exception):
    """An answer that hvac takes for a success and that is none."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def _as_object(answer: Any) -> dict[str, Any]:
    """hvac returns a dict, a Response or, from a login, a Token."""
    if isinstance(answer, Token):
        return {"token": answer}
    if isinstance(answer, dict):
        return answer
    status = getattr(answer, "status_code", None)
    if status in (200, 202, 204):
        return {}
    raise _Answered(failure_of_status(status or 0))


def _without_text(error: BaseException | None) -> BaseException | None:
    """The cause, as far as it may be shown: its class."""
    if error is None:
        return None
    return RuntimeError(type(error).__name__)


def _renew_self(vault: hvac.Client) -> Any:
    return vault.auth.token.renew_self()


def _revoke_self(vault: hvac.Client) -> Any:
    return vault.auth.token.revoke_self()

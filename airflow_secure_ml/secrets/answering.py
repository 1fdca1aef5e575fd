"""Answer one look-up: who asks, whether they may, where the secret is, and what is recorded.

Nothing of Airflow's own classes; `backend` turns answers into connections and variables.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.stored_secret import Restriction, StoredSecret, rules_for
from airflow_secure_ml.current_task import current_run, current_team, this_program
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.recording import sink_of_this_process
from airflow_secure_ml.secrets.options import WHERE, Options, parse_options
from airflow_secure_ml.services.recorded_act import Outcome, printable, recorded
from airflow_secure_ml.services.secret_reading import SecretEngine, SecretReading

_EVENT_KINDS = {"connections": "connection", "variables": "variable", "config": "config"}


class Answers:
    """One set of options, and what this process read with it.

    Args:
        given: The back end's keyword arguments.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)
        self._lock = threading.Lock()
        self._options: Options | None = None
        self._reading: SecretReading | None = None
        self._closing: Callable[[], None] | None = None
        self._closed_at_exit_of = 0

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secrets back end cannot be pickled; let Airflow make it anew")

    def __repr__(self) -> str:
        return "Answers(***)"

    def forget(self) -> None:
        """Begin anew in a forked child: what the parent read is not handed on."""
        self._lock = threading.Lock()
        if self._reading is not None:
            self._reading.forget()

    def close(self) -> None:
        """Revoke the token that was made; the next look-up logs in again."""
        if self._closing is not None:
            self._closing()

    def answer(self, kind: str, name: str, team: str | None) -> dict[str, Any] | None:
        """The fields of a secret; None: it is not there, and another back end may be asked.

        Args:
            kind: connections, variables or config.
            name: As Airflow asks for it.
            team: The team that Airflow says it is for; that of this process's task, if it has
                one, goes before.

        Raises:
            SecureMLError: Denied, or not known: no other back end may be asked.
        """
        options, wrong = self._options_or_error()
        if options is not None and options.paths[kind] is None:
            return None
        run = current_run()
        facts = {"name": printable(name), "kind": _EVENT_KINDS[kind]}
        sink = sink_of_this_process(run, program=this_program(run))
        with recorded(sink, run, "secret.read", facts) as outcome:
            if options is None:
                raise wrong or ConfigurationError(f"{WHERE}: cannot be read")
            # The task's own team first: only its own code could name another.
            secret, names = self._find(options, kind, name, current_team() or team, outcome)
            if secret is None:
                _check_may_be_absent(options, kind)
                return None
            _check_may(secret, rules_for(options.rules, names), run, outcome)
            return secret.fields

    def _options_or_error(self) -> tuple[Options | None, ConfigurationError | None]:
        try:
            return self.options(), None
        except ConfigurationError as error:
            return None, error

    def options(self) -> Options:
        """The options, read on first use; ConfigurationError if they cannot be."""
        # Locked: what a second thread read after the first would be no options at all.
        with self._lock:
            if self._options is None:
                self._options = parse_options(self._given)
                # Secrets are in the options now, masked.
                self._given = {}
            return self._options

    def _find(
        self, options: Options, kind: str, name: str, team: str | None, outcome: Outcome
    ) -> tuple[StoredSecret | None, set[str]]:
        """The secret, and every name by which it could have been asked for."""
        for mount, path in _places(options, kind, name, team):
            found = self._read(options).read(mount, path)
            if found.secret is not None:
                outcome.because = "cached" if found.cached else None
                return found.secret, {f"{kind}/{name}", *_names(options, mount, path)}
        outcome.because = "absent"
        return None, set()

    def _read(self, options: Options) -> SecretReading:
        with self._lock:
            if self._reading is None:
                self._reading = SecretReading(lambda: self._engine(options), options.limits)
            if self._closing is not None and self._closed_at_exit_of != os.getpid():
                # Airflow forks its tasks, and drops the exit handlers that they inherit.
                self._closed_at_exit_of = os.getpid()
                atexit.register(self._closing)
            return self._reading

    def _engine(self, options: Options) -> SecretEngine:
        # Imported here: hvac costs what Python costs to start.
        from airflow_secure_ml.adapters.vault.kv import KvEngine
        from airflow_secure_ml.hooks.vault import client_of

        client = client_of(options.connection)
        self._closing, self._closed_at_exit_of = client.close, os.getpid()
        atexit.register(client.close)
        return KvEngine(client, version=options.kv_version)


def _check_may_be_absent(options: Options, kind: str) -> None:
    if options.absent[kind]:
        raise PolicyError("Vault has none of that name, and no other back end may be asked")


def _places(options: Options, kind: str, name: str, team: str | None) -> Iterator[tuple[str, str]]:
    """Mounts and paths in the order they are tried: the team's own first, then the shared ones."""
    mount, key = options.mount, name
    if mount is None:
        mount, slash, key = name.partition("/")
        if not slash:
            return
    bases = options.paths[kind] or ()
    teams = kind != "config" and options.team_paths and _has_teams()
    if teams and team is not None:
        for base in bases:
            yield mount, _joined(base, team, key)
    # Below the shared path a name with a slash may be another team's.
    if not (teams and "/" in key):
        for base in bases:
            yield mount, _joined(base, key)


def _joined(base: str, *parts: str) -> str:
    # A name that is empty leaves a slash at the end, and is refused for it.
    return "/".join([base, *parts] if base else parts)


def _names(options: Options, mount: str, path: str) -> Iterator[str]:
    """What would lead to a place, below each base that does: one may lie in another."""
    before = "" if options.mount else f"{mount}/"
    for kind, bases in options.paths.items():
        for base in bases or ():
            below = path.removeprefix(f"{base}/") if base else path
            if not base or below != path:
                yield f"{kind}/{before}{below}"


def _has_teams() -> bool:
    from airflow.sdk.configuration import conf

    return bool(conf.getboolean("core", "multi_team", fallback=False))


def _check_may(
    secret: StoredSecret, rules: list[Restriction], run: RunRef | None, outcome: Outcome
) -> None:
    if all(one.allows(run) for one in [*secret.restrictions(), *rules]):
        return
    outcome.because = "restricted"
    asker = "whoever is no task" if run is None else f"task {run.task} of DAG {run.dag}"
    raise PolicyError(f"it is for other DAGs or tasks, and not for {asker}")


_lock = threading.Lock()
_answers: dict[str, Answers] = {}


def answers_of(given: Mapping[str, Any]) -> Answers:
    """The answers of these options, made once in a process: Airflow makes many back ends."""
    text = json.dumps(given, sort_keys=True, default=repr)
    key = hashlib.sha256(text.encode()).hexdigest()
    with _lock:
        return _answers.setdefault(key, Answers(given))


def forget_answers() -> None:
    """Close every back end's client and drop its answers, so that a test begins anew."""
    with _lock:
        every = list(_answers.values())
        _answers.clear()
    for one in every:
        one.close()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for one in _answers.values():
        one.forget()


os.register_at_fork(after_in_child=_after_fork)

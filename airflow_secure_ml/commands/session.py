"""What one command works with: settings, keys, files, and the trail that it writes first.

An act is durable as intended before a key or a byte is touched, and as done or refused before the
command goes on. Where that is not possible the act does not happen.

Source: AUDIT_TRAIL, When it is durable.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_secure_ml.commands.asking import ask_passphrase
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.key_systems import open_local_keyring
from airflow_secure_ml.recording import close_sink, sink_of_this_process

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.local_keyring import LocalKeyring
    from airflow_secure_ml.core.ports import AuditSink, KeyRef, ObjectStore
    from airflow_secure_ml.deployment import Deployment
    from airflow_secure_ml.services.governed_keys import GovernedKeys
    from airflow_secure_ml.settings import Settings


@dataclass(slots=True)
class Outcome:
    """What an act's outcome will say; the command fills it in.

    Attributes:
        why: It ended without an error and did not go well, for this reason.
    """

    object: dict[str, Any] = field(default_factory=dict)
    key: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    why: str | None = None


class Session:
    """One command's view of the deployment; everything is made when it is first asked for."""

    def __init__(self) -> None:
        self._records = False

    @cached_property
    def settings(self) -> Settings:
        """The section [secure_ml]."""
        return deployment().settings

    def store_of(self, uri: str) -> ObjectStore:
        """Where an address leads: files of this machine, a bucket."""
        return deployment().store(uri)

    @cached_property
    def keys(self) -> GovernedKeys:
        """Every key that the settings name a system for."""
        return self._keyed().keys

    @cached_property
    def keyring(self) -> LocalKeyring:
        """The keyring that `keys` commands change."""
        return open_local_keyring(
            self.settings.key_system,
            self._keyed().passphrase,
            demands_passphrase=self.settings.keyring_passphrase_path is not None,
        )

    def _keyed(self) -> Deployment:
        """The deployment, with somebody to ask for a passphrase."""
        made = deployment()
        made.ask_passphrase = ask_passphrase
        return made

    @property
    def sink(self) -> AuditSink:
        """This process's part of the trail."""
        self._records = True
        return sink_of_this_process(program="cli")

    def address(self, path: str) -> str:
        """The canonical address of what a person typed, which may be relative."""
        is_address = "://" in path
        return deployment().canonical(path if is_address else os.path.abspath(path))

    def see(self, name: str, *, more: Mapping[str, Any]) -> None:
        """Record something that needs no intent; durable when this returns."""
        self.sink.record(Fact(act=name, phase="seen", result="ok", more=more, by=user_name()))
        self.sink.settle()

    @contextmanager
    def act(
        self,
        name: str,
        *,
        object: Mapping[str, Any] | None = None,
        key: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Iterator[Outcome]:
        """Record an act: its intent before the block, its outcome after it, both durable.

        Raises:
            ServiceUnavailableError: It cannot be recorded (audit_unavailable).
        """
        by = user_name()
        intent = self.sink.record(
            Fact(act=name, phase="intent", object=object, key=key, more=more, by=by)
        )
        self.sink.settle()
        outcome = Outcome()
        result, why = "unknown", None
        try:
            yield outcome
            result, why = ("failed" if outcome.why else "ok"), outcome.why
        except SecureMLError as error:
            result, why = error.result, error.why
            raise
        finally:
            self.sink.record(
                Fact(
                    act=name,
                    phase="outcome",
                    result=result,
                    why=why,
                    of=intent or None,
                    object={**(object or {}), **outcome.object},
                    key={**(key or {}), **outcome.key},
                    more={**(more or {}), **outcome.more},
                    by=by,
                )
            )
            self.sink.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._records:
            close_sink()


def user_name() -> str:
    """Who runs the command, as the system knows them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def key_facts(key: KeyRef) -> dict[str, str]:
    """A key as events name it."""
    return {"system": key.system, "name": key.name, "version": key.version}

"""The trail of commands that act on many objects, each recorded with who runs the command."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_secure_ml.commands.session import Session, user_name
from airflow_secure_ml.services.journal import Journal

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.event import Fact
    from airflow_secure_ml.core.ports import AuditSink


def trail_of(session: Session) -> Journal:
    """A journal outside of tasks, whose facts say who runs the command."""
    return Journal(_Named(session.sink, user_name()), None, lambda line: None)


class _Named:
    """A sink whose facts say who runs the command."""

    def __init__(self, sink: AuditSink, by: str) -> None:
        self._sink, self._by = sink, by

    def record(self, fact: Fact) -> str:
        return self._sink.record(replace(fact, by=self._by))

    def settle(self) -> None:
        self._sink.settle()

    def close(self) -> None:
        self._sink.close()

"""End the work on a whole folder in the middle, as the end of a process would."""

from __future__ import annotations

import contextlib

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects


class Interrupted(BaseException):
    """Nobody handles it."""


@contextlib.contextmanager
def only_commits(monkeypatch, commits):
    """Let only so many commits of any local object happen inside; the next one must come."""
    left = [commits]
    create = LocalObjects.create

    def counted(store, uri):
        writer = create(store, uri)
        commit = writer.commit

        def maybe(**more):
            if left[0] == 0:
                raise Interrupted
            left[0] -= 1
            return commit(**more)

        writer.commit = maybe
        return writer

    with monkeypatch.context() as patch:
        patch.setattr(LocalObjects, "create", counted)
        with pytest.raises(Interrupted):
            yield

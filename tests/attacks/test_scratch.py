"""Two tasks that sweep scratch at once, and what one of them then finds."""

from __future__ import annotations

import os

from airflow_secure_ml.adapters.scratch import making


def test_a_leftover_that_another_task_sweeps_first_stops_nobody(tmp_path, monkeypatch):
    root = tmp_path / f"asml-{'0' * 32}"
    root.mkdir()
    real = os.rmdir

    def after_another(path, **options):
        real(path, **options)
        real(path, **options)

    monkeypatch.setattr(os, "rmdir", after_another)

    assert making.sweep([tmp_path]) == []
    assert not root.exists()

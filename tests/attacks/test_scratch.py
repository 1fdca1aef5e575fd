"""Two tasks that sweep scratch at once, and what one of them then finds."""

from __future__ import annotations

from airflow_secure_ml.adapters.scratch import making


def test_a_leftover_that_another_task_sweeps_first_stops_nobody(tmp_path, monkeypatch):
    root = tmp_path / f"asml-{'0' * 32}"
    root.mkdir()

    def swept_right_after(path):
        root.rmdir()
        return True

    monkeypatch.setattr(making, "is_directory", swept_right_after)

    assert making.sweep([tmp_path]) == []

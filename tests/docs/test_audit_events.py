"""docs/audit-events.md lists the catalogue, no more and no less."""

from __future__ import annotations

from pathlib import Path

from airflow_secure_ml.core.audit.catalogue import WHYS, as_table

PAGE = Path(__file__).parents[2] / "docs" / "audit-events.md"


def test_the_page_lists_what_the_code_may_write():
    page = PAGE.read_text(encoding="utf-8")

    assert as_table() in page


def test_the_page_lists_every_reason():
    page = PAGE.read_text(encoding="utf-8")
    listed = page.partition("## Reasons")[2]

    assert set(listed.replace("`", "").split()) >= WHYS


def test_the_table_has_a_line_a_phase():
    lines = as_table().splitlines()

    assert lines[2] == (
        "| `emitter.open` | seen | airflow, boot, host, parent, pid (int), program, uid (int), "
        "version | a process begins to record |"
    )
    assert lines[6].startswith("| `task.secure` | intent | expects (list), leases (list), ")
    assert lines[7].startswith("| | outcome | because, leases (int), ms (int), reads (int), ")

"""`audit erase`: recorded, gone from files, said what is left."""

from __future__ import annotations

import getpass
import json

import pytest

from tests.services.audit.conftest import ALICE, segment
from tests.services.audit.test_erasing_subject import hidden, said_by
from tests.test_cli import home, made  # noqa: F401 - fixtures


def files_of(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def events(home, act):  # noqa: F811
    return [
        line["event"] for line in json.loads(home.done("audit", "show", "--json", "--act", act))
    ]


def test_whoever_used_the_command_line_is_erased(home):  # noqa: F811
    me = getpass.getuser()
    home.done("keys", "create", "another", "--for", "wrap")
    home.sequence()

    answer = home.run(
        "audit", "erase", "--person", "-", "--yes", "--json", stdin=f"{me}\n".encode()
    )
    home.sequence()

    # Its own intent names who erased: in the spool while it ran, and taken in since.
    assert answer.returncode == 4, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["known"], found["waiting"]) == (True, 1)
    assert found["rows"] >= 1
    intent, outcome = events(home, "trail.erase")[-2:]
    assert (intent["phase"], outcome["phase"], outcome["result"]) == ("intent", "outcome", "ok")
    assert outcome["more"]["count"] == found["rows"]
    assert home.run("audit", "verify").returncode == 0


def test_somebody_else_is_erased_whole(home):  # noqa: F811
    answer = home.run("audit", "erase", "--person", "maria.keller", "--yes")

    assert answer.returncode == 0
    assert b"nobody of that name" in answer.stdout


@pytest.mark.parametrize("folder", ["spool", "collected", "ingested", "spare"])
def test_a_name_that_waits_anywhere_on_this_machine_is_counted(home, folder):  # noqa: F811
    place = home.audit / folder
    place.mkdir(mode=0o700, parents=True)
    lies = hidden("maria.keller", 1)
    events, tail = said_by(ALICE, lies)
    (place / f"{ALICE}-0000.seg").write_bytes(segment(ALICE, 0, events, tail=tail))
    options = {"AIRFLOW__SECURE_ML__AUDIT_SPARE_DIR": str(home.audit / "spare")}

    answer = home.run("audit", "erase", "--person", "maria.keller", "--yes", "--json", **options)

    found = json.loads(answer.stdout)
    # A spool may have been taken in before it was looked at; both, where that came in between.
    assert found["known"], answer.stderr
    assert found["waiting"] or found["rows"]
    assert answer.returncode == (4 if found["waiting"] else 0)
    assert found["waiting"] or folder in ("spool", "spare")


def test_no_name_is_wrong_use(home):  # noqa: F811
    assert home.refused(2, "audit", "erase", "--person", "-", "--yes")["why"] == "misconfigured"


def test_names_lie_sealed_in_the_log(home):  # noqa: F811
    home.done("keys", "create", "third", "--for", "wrap")
    home.sequence()

    assert getpass.getuser().encode() not in files_of(home.audit / "subjects")

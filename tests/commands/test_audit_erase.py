"""`audit erase`: recorded, gone from files, said what is left."""

from __future__ import annotations

import getpass
import json

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


def test_no_name_is_wrong_use(home):  # noqa: F811
    assert home.refused(2, "audit", "erase", "--person", "-", "--yes")["why"] == "misconfigured"


def test_names_lie_sealed_in_the_log(home):  # noqa: F811
    home.done("keys", "create", "third", "--for", "wrap")
    home.sequence()

    assert getpass.getuser().encode() not in files_of(home.audit / "subjects")

"""Whose life is over: by a rule or by the author, and only after an accepted signature."""

from __future__ import annotations

import datetime as dt
import shutil

import pytest

from airflow_secure_ml.core.manifest import Manifest
from airflow_secure_ml.core.policy_file import parse_rules
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.retention import find_expired
from airflow_secure_ml.services.statement_files import sign_artifact
from airflow_secure_ml.testing.ports import MemoryKeySystem
from tests.services.sealing.lake import Lake

WRITTEN_MS = 1_800_000_000_000  # 2027-01-15
RULES = b'version = "1"\n[[data]]\nprefix = "%s"\nkeep_days = 30\n'


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake", MemoryKeySystem())


def write(
    lake, name, *, signed_ms=WRITTEN_MS, act="write", signer="pipeline", replaces=None, **context
):
    if not (lake.root / name).exists():
        lake.data_set(name, 1)
    said = Statement(
        object=lake.uri(name),
        manifest=build_manifest(lake.store, lake.uri(name)),
        act=act,
        signed_ms=signed_ms,
        context=context,
        replaces=replaces,
    )
    assert isinstance(said.manifest, Manifest)
    return sign_artifact(lake.store, said, lake.keys.signer(signer))


def expired(lake, today, *, rules=None, path=""):
    found = find_expired(
        lake.store,
        lake.uri(path),
        rules=rules,
        verifiers=lambda uri: lake.keys.verifiers(["pipeline"]),
        today=dt.date.fromisoformat(today),
    )
    return [(each.uri.rpartition("/")[2], str(each.until)) for each in found.expired], found


def rules_for(lake):
    return parse_rules(RULES % str(lake.root).encode(), canonical=lake.store.canonical)


@pytest.mark.parametrize(
    ("today", "over"), [("2027-02-14", False), ("2027-02-15", True)], ids=["last day", "day after"]
)
def test_a_rule_counts_days_from_the_signed_statement(lake, today, over):
    write(lake, "visits")

    found, _ = expired(lake, today, rules=rules_for(lake))

    assert found == ([("visits", "2027-02-14")] if over else [])


def test_an_author_may_say_the_day(lake):
    write(lake, "visits", keep_until="2027-01-31")
    write(lake, "stays", keep_until="2028-01-31")

    found, whole = expired(lake, "2027-02-01")

    assert found == [("visits", "2027-01-31")]
    assert whole.kept == 1


def test_the_earlier_day_counts(lake):
    write(lake, "visits", keep_until="2030-01-01")

    assert expired(lake, "2027-03-01", rules=rules_for(lake))[0] == [("visits", "2027-02-14")]


def test_what_declares_no_life_is_kept(lake):
    write(lake, "visits")

    assert expired(lake, "2099-01-01")[0] == []


def test_a_data_set_that_was_written_anew_lives_anew(lake):
    write(lake, "visits")
    write(lake, "visits", signed_ms=WRITTEN_MS + 10 * 86_400_000)

    assert expired(lake, "2027-02-20", rules=rules_for(lake))[0] == []


@pytest.mark.parametrize("who", ["nobody", "a stranger", "somebody who only vouches"])
def test_nobody_else_can_end_a_life(lake, who):
    lake.data_set("visits", 1)
    if who == "a stranger":
        other = MemoryKeySystem()
        ours, lake.keys = lake.keys, other
        write(lake, "visits", keep_until="2000-01-01")
        lake.keys = ours
    elif who == "somebody who only vouches":
        write(lake, "visits", act="sign", keep_until="2000-01-01")

    found, whole = expired(lake, "2027-02-20")

    assert found == []
    assert whole.unsigned == (lake.uri("visits"),)


def test_a_statement_about_another_data_set_ends_no_life(lake):
    said = write(lake, "stays", keep_until="2000-01-01")
    lake.data_set("visits", 1)
    folder = lake.root / "visits.sig"
    folder.mkdir()
    name = said.uri.rpartition("/")[2]
    (folder / name).write_bytes((lake.root / "stays.sig" / name).read_bytes())

    found, whole = expired(lake, "2027-02-20")

    assert found == [("stays", "2000-01-01")]
    assert whole.unsigned == (lake.uri("visits"),)


@pytest.mark.parametrize("text", ["soon", "2027-02-30", "20270101", "2027-1-1", ""])
def test_a_day_that_is_none_is_said(lake, text):
    write(lake, "visits", keep_until=text)

    with pytest.raises(ConfigurationError, match="keep_until"):
        expired(lake, "2027-02-20")


@pytest.mark.parametrize("days", ["0", "-1", "true", '"30"', "30.0", "99999999"])
def test_a_rule_with_another_number_of_days_is_refused(lake, days):
    text = RULES.replace(b"keep_days = 30", f"keep_days = {days}".encode())

    with pytest.raises(ConfigurationError, match="keep_days"):
        parse_rules(text % b"/lake", canonical=lake.store.canonical)


def test_one_data_set_may_be_named_itself(lake):
    write(lake, "visits", keep_until="2027-01-31")

    assert expired(lake, "2027-02-01", path="visits")[0] == [("visits", "2027-01-31")]


def test_a_signer_whom_the_rule_does_not_name_ends_no_life(lake):
    write(lake, "visits", keep_until="2000-01-01")
    asked = []

    def verifiers(uri):
        asked.append(uri)
        return MemoryKeySystem().verifiers(["pipeline"])

    found = find_expired(
        lake.store, lake.uri(), rules=None, verifiers=verifiers, today=dt.date(2027, 2, 20)
    )

    assert found.expired == ()
    assert found.unsigned == (lake.uri("visits"),)
    assert asked == [lake.uri("visits")]


def test_what_somebody_put_in_its_place_is_not_what_was_signed(lake):
    write(lake, "visits", keep_until="2000-01-01")
    lake.seal("visits/00/0.bin")

    found, whole = expired(lake, "2027-02-20")

    assert found == []
    assert whole.unsigned == (lake.uri("visits"),)


def test_a_writer_that_signed_and_never_published_ends_no_life(lake):
    write(lake, "visits", keep_until="2030-01-01")
    kept = lake.root.rename(lake.root.parent / "aside")
    lake.data_set("visits", 1)
    write(lake, "visits", signed_ms=WRITTEN_MS + 1, keep_until="2000-01-01")
    for path in (lake.root / "visits.sig").iterdir():
        path.rename(kept / "visits.sig" / path.name)
    shutil.rmtree(lake.root)
    kept.rename(lake.root)
    assert len(list((lake.root / "visits.sig").iterdir())) == 2

    assert expired(lake, "2027-02-20")[0] == []


def test_sealing_anew_gives_no_second_life(lake):
    first = write(lake, "visits")
    old = lake.root / "visits"
    shutil.rmtree(old)
    write(lake, "visits", signed_ms=WRITTEN_MS + 20 * 86_400_000, replaces=first.digest)

    assert expired(lake, "2027-02-15", rules=rules_for(lake))[0] == [("visits", "2027-02-14")]


def test_the_newest_of_very_many_statements_counts(lake):
    """Their names say nothing of when they were made."""
    lake.data_set("visits", 1)
    folder = lake.root / "visits.sig"
    folder.mkdir()
    write(lake, "visits", signed_ms=WRITTEN_MS)
    (first,) = folder.iterdir()
    for number in range(300):
        shutil.copy(first, folder / f"{first.name}.{number + 2}")
    said = write(lake, "visits", signed_ms=WRITTEN_MS + 20 * 86_400_000)
    newest = folder / said.uri.rpartition("/")[2]
    newest.rename(folder / f"{first.name.partition('.')[0]}.0")

    assert expired(lake, "2027-02-20", rules=rules_for(lake))[0] == []

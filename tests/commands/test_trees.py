"""`seal --recursive` and `open --recursive` as people and programs run them."""

from __future__ import annotations

import io
import json
import shutil

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.commands.progress import TreeProgress
from airflow_secure_ml.services.tree_work import Tally
from tests.commands.test_rotation import Desk

FILES = {"a.csv": b"alice", "deep/b.csv": b"bob" * 1000, "deep/größe 1.csv": b""}


class Mover(Desk):
    def write(self, files, at="plain"):
        for name, data in files.items():
            path = self.path / at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def tree(self, at):
        root = self.path / at
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    def in_words(self, *words):
        answer = self.run(*words)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.splitlines()


@pytest.fixture
def mover(tmp_path):
    from airflow_secure_ml.adapters.local_keyring import LocalKeyring

    LocalKeyring(tmp_path / "secure_ml" / "keyring.json").init()
    init_log(tmp_path / "secure_ml" / "signer", "airflow")
    mover = Mover(tmp_path)
    mover.write(FILES)
    yield mover
    stop_sequencer(tmp_path / "secure_ml" / "audit")


@pytest.fixture
def sealed(mover):
    mover.report = mover.done("seal", "--recursive", "plain", "sealed", "--context", "purpose=x")
    return mover


def test_data_goes_in_and_comes_out_again(sealed):
    assert (sealed.report["done"], sealed.report["skipped"], sealed.report["failed"]) == (3, 0, 0)
    assert sealed.report["signed_by"] == ["pipeline/1"]
    sealed.done("verify", "sealed")

    back = sealed.done("open", "--recursive", "sealed", "back")

    assert sealed.tree("back") == FILES
    assert (back["done"], back["left"], back["signed_by"]) == (3, 0, ["pipeline/1"])
    assert back["done_bytes"] == 3005


def test_both_say_in_words_what_came_of_it(mover):
    first = mover.in_words("seal", "--recursive", "plain", "sealed")
    again = mover.in_words("seal", "--recursive", "plain", "sealed")
    back = mover.in_words("open", "--recursive", "sealed", "back")

    assert first[0].startswith("sealed 3 files, 3.0 kB, in ")
    assert first[0].endswith("; 0 were sealed before, 0 failed")
    assert first[1] == f"signed by pipeline/1: file://{mover.path}/sealed"
    assert again[0].startswith("sealed 0 files, 0 bytes, in ")
    assert again[0].endswith("; 3 were sealed before, 0 failed")
    assert back[1] == f"signed by pipeline/1: file://{mover.path}/back"


def test_one_key_opens_all_and_its_rotation_rewrites_one_file(sealed):
    sealed.done("keys", "rotate", "data")

    assert sealed.done("rewrap", "--recursive", "sealed", "--key", "data")["rewrapped"] == 1
    sealed.done("verify", "sealed")
    assert sealed.done("open", "--recursive", "sealed", "back")["done"] == 3


def test_the_trail_says_what_is_done_before_it_is(sealed):
    sealed.done("open", "--recursive", "sealed", "back")

    said = [
        (event["act"], event["phase"], event["object"]["uri"].rpartition("/")[2])
        for event in sealed.acts("object.")
    ]

    assert said == [
        ("object.seal", "intent", "sealed"),
        ("object.publish", "intent", "sealed"),
        ("object.publish", "outcome", "sealed"),
        ("object.seal", "outcome", "sealed"),
        ("object.sign", "intent", "sealed"),
        ("object.sign", "outcome", "sealed"),
        ("object.verify", "intent", "sealed"),
        ("object.verify", "outcome", "sealed"),
        ("object.open", "intent", "sealed"),
        ("object.publish", "intent", "back"),
        ("object.publish", "outcome", "back"),
        ("object.open", "outcome", "sealed"),
    ]


def test_what_fails_is_named_with_status_1_and_nothing_is_signed(sealed):
    path = sealed.path / "sealed/a.csv"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x00")

    answer = sealed.run(
        "open", "--recursive", "sealed", "back", "--unsigned", "--keep-going", "--json"
    )

    report = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert (report["done"], report["failed"], report["left"]) == (2, 1, 0)
    assert "a.csv" in report["failures"][0]["message"]
    assert not (sealed.path / "back/a.csv").exists()
    outcome = sealed.acts("object.open")[-1]
    assert (outcome["result"], outcome["why"]) == ("failed", "digest_differs")


def test_a_way_back_without_a_statement_must_be_asked_for(sealed):
    shutil.rmtree(sealed.path / "sealed.sig")

    assert sealed.refused(1, "open", "--recursive", "sealed", "back")["why"] == "not_signed"
    assert not (sealed.path / "back").exists()
    assert sealed.done("open", "--recursive", "sealed", "back", "--unsigned")["signed_by"] is None


def test_another_signer_and_another_key_may_be_named(mover):
    mover.done("keys", "create", "archive", "--for", "wrap")
    mover.done("keys", "create", "release", "--for", "sign")

    words = ["--recursive", "plain", "sealed", "--key", "archive", "--sign-key", "release"]
    assert mover.done("seal", *words)["signed_by"] == ["release/1"]

    refused = mover.refused(1, "open", "--recursive", "sealed", "back")
    assert refused["why"] == "signer_not_accepted"
    mover.done("open", "--recursive", "sealed", "back", "--signed-by", "release")
    (header,) = (mover.path / "sealed/_asml").glob("*.asmk")
    assert mover.slots(header) == ["archive/1"]


def test_a_moved_folder_opens_as_what_it_was(sealed):
    shutil.move(sealed.path / "sealed", sealed.path / "moved")
    shutil.move(sealed.path / "sealed.sig", sealed.path / "moved.sig")

    assert sealed.refused(1, "open", "--recursive", "moved", "x")["why"] == "context_differs"
    was = f"object=file://{sealed.path}/sealed"
    assert sealed.done("open", "--recursive", "moved", "back", "--context", was)["done"] == 3


@pytest.mark.parametrize(
    "words",
    [
        ["seal", "--recursive", "plain", "-"],
        ["seal", "--recursive", "-", "x"],
        ["seal", "--recursive", "plain", "x", "--replace"],
        ["seal", "--recursive", "plain", "x", "--threads", "0"],
        ["seal", "--recursive", "plain", "plain/x"],
        ["seal", "--recursive", "plain/a.csv", "x"],
        ["seal", "plain/a.csv", "x", "--keep-going"],
        ["seal", "plain/a.csv", "x", "--sign-key", "pipeline"],
        ["open", "--recursive", "plain", "-"],
        ["open", "--recursive", "plain", "x", "--any-context", "--context", "a=b"],
        ["open", "--recursive", "nowhere", "x", "--unsigned"],
        ["open", "--recursive", "plain", "x", "--unsigned", "--signed-by", "pipeline"],
        ["open", "--recursive", "plain/a.csv", "x"],
    ],
    ids=" ".join,
)
def test_wrong_use_has_status_2(mover, words):
    mover.refused(2, *words)

    assert not (mover.path / "x").exists()


# What is said while it runs.


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, steps, **more):
    now = [0.0]
    tally = Tally(files=10, size_bytes=100_000_000)
    with TreeProgress("sealed", stream=stream, clock=lambda: now[0], **more) as progress:
        progress.watch(tally)
        for seconds, files, done in steps:
            now[0] = seconds
            progress(files, done)
    return stream.getvalue()


def test_a_terminal_shows_files_bytes_rate_and_time_left():
    drawn = shown(Terminal(), [(1.0, 0, 1), (4.0, 2, 20_000_000)])

    line = "sealed 2 of 10 files  20.0 MB of 100.0 MB  5.0 MB/s  0:16 left"
    assert drawn == f"\r[#####                   ] {line}\x1b[K\r\x1b[K"


def test_a_log_gets_a_line_a_minute():
    steps = [(30.0, 1, 10_000_000), (60.0, 2, 20_000_000), (61.0, 3, 30_000_000)]

    assert shown(io.StringIO(), steps) == (
        "sealed 2 of 10 files  20.0 MB of 100.0 MB  333.3 kB/s  4:00 left\n"
    )


def test_short_work_and_programs_get_nothing():
    assert shown(Terminal(), [(1.9, 9, 1)]) == ""
    assert shown(Terminal(), [(9.0, 9, 1)], is_quiet=True) == ""

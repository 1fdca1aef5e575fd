"""A data set whose key was destroyed: what is left, what is refused, what is never touched."""

from __future__ import annotations

import contextlib
import os

import pytest

from airflow_secure_ml.core.statement import Producer
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
    ServiceUnavailableError,
    SignatureError,
)
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.shredding import Asked, read_certificate, shred_data_set
from airflow_secure_ml.testing.ports import MemoryKeySystem
from tests.services.sealing.lake import Lake

TASK = Producer(dag_id="forget", task_id="shred", run_id="manual__1")


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake", MemoryKeySystem())


@pytest.fixture
def shred(lake):
    def shred(name="visits", reason="patient asked", signer="pipeline"):
        return shred_data_set(
            lake.store,
            lake.uri(name),
            Asked(reason=reason, now_ms=1_800_000_000_000, producer=TASK),
            signer=lake.keys.signer(signer),
            verifiers=lake.keys.verifiers([signer]),
            trail=Journal(lake.audit, None, lambda line: None),
        )

    return shred


def acts(lake):
    return [(e.phase, e.result, e.why) for e in lake.audit.facts if e.act == "dataset.shred"]


def files(root):
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_read_fails_with_that_reason_and_the_certificate_says_the_rest(lake, shred):
    header = lake.data_set("visits", 3)
    core_id = header.stem

    done = shred()

    assert not header.exists()
    with pytest.raises(PolicyError, match="was destroyed") as caught:
        lake.read("visits/00/0.bin", root="visits")
    assert caught.value.why == "key_destroyed"
    (uri,) = done.certificates
    told = read_certificate(lake.store, uri, lake.keys.verifiers(["pipeline"]))
    assert told == done.destructions[0]
    assert (told.data_set, told.core_id, told.copies) == (lake.uri("visits"), core_id, 1)
    assert (told.wrapped_by, told.reason) == (("data/1",), "patient asked")
    assert [each.path for each in told.objects] == ["00/0.bin", "01/1.bin", "02/2.bin"]
    assert told.producer == TASK
    assert acts(lake) == [("intent", None, None), ("outcome", "ok", None)]
    assert told.event


def test_the_key_is_overwritten_and_not_only_unlinked(lake, shred):
    header = lake.data_set("visits", 1)
    size_bytes = header.stat().st_size
    with header.open("rb") as held:
        shred()

        assert held.read() == bytes(size_bytes)


def test_another_data_set_under_the_same_key_still_opens(lake, shred):
    lake.data_set("visits", 1)
    lake.data_set("stays", 1)

    shred()

    assert lake.read("stays/00/0.bin", root="stays") == b"hello"


@pytest.mark.parametrize("what", ["plain", "slot of its own", "two slots", "another data set's"])
def test_nothing_is_destroyed_where_something_would_stay_readable(lake, shred, what):
    lake.data_set("visits", 1)
    if what == "plain":
        (lake.root / "visits" / "note.txt").write_text("p1: diabetes")
    elif what == "slot of its own":
        lake.seal("visits/more.bin")
    elif what == "two slots":
        other = lake.data_set("other", 1)
        data = (lake.root / "other" / "00" / "0.bin").read_bytes()
        (lake.root / "visits" / "more.bin").write_bytes(data)
        assert other.exists()
    else:
        lake.data_set("visits/inner", 1)
    before = files(lake.root)

    with pytest.raises(PolicyError, match="nothing was destroyed") as caught:
        shred()

    assert caught.value.why == "not_checkable"
    assert files(lake.root) == before
    assert acts(lake) == []


def test_a_broken_file_is_no_reason_to_go_on(lake, shred):
    header = lake.data_set("visits", 1)
    path = lake.root / "visits" / "00" / "0.bin"
    path.write_bytes(path.read_bytes()[:60])

    with pytest.raises(FormatError):
        shred()

    assert header.exists()


@pytest.mark.parametrize("what", ["nothing", "a file", "a folder without keys"])
def test_only_a_sealed_directory_is_shredded(lake, shred, what):
    lake.root.mkdir()
    if what == "a file":
        lake.seal("visits")
    elif what == "a folder without keys":
        lake.seal("visits/a.bin")

    with pytest.raises(ConfigurationError, match="expected a sealed directory"):
        shred()


def test_what_is_shredded_already_is_left_as_it_is(lake, shred):
    lake.data_set("visits", 1)
    first = shred()
    before = files(lake.root)

    again = shred(reason="another")

    assert again.certificates == first.certificates
    assert again.destructions == ()
    assert files(lake.root) == before


def test_a_key_that_came_back_from_a_backup_goes_again(lake, shred):
    header = lake.data_set("visits", 1)
    backup = header.read_bytes()
    first = shred()
    header.write_bytes(backup)
    assert lake.read("visits/00/0.bin", root="visits") == b"hello"

    again = shred()

    assert again.certificates == first.certificates
    assert again.destructions[0].copies == 1
    assert _why(lake) == "key_destroyed"


def test_no_key_is_touched_before_the_trail_has_the_intent(lake, shred, monkeypatch):
    header = lake.data_set("visits", 2)
    before = files(lake.root)
    monkeypatch.setattr(lake.audit, "settle", _refuse)

    with pytest.raises(ServiceUnavailableError):
        shred()

    assert header.exists()
    assert files(lake.root) == before


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("step", ["create", "destroy", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", [1, 2], ids=["first", "second"])
def test_an_interrupted_shredding_goes_on(lake, shred, step, when, call, monkeypatch):
    header = lake.data_set("visits", 2)
    original, calls = getattr(lake.store, step), []

    def struck(uri):
        calls.append(uri)
        if len(calls) == call and when == "before":
            raise Cut
        done = original(uri)
        if len(calls) == call and when == "after":
            raise Cut
        return done

    monkeypatch.setattr(lake.store, step, struck, raising=False)
    with contextlib.suppress(Cut):
        shred()
    monkeypatch.undo()
    reads = [_why(lake)]

    done = shred()

    reads.append(_why(lake))
    assert reads in ([None, "key_destroyed"], ["key_destroyed", "key_destroyed"])
    assert len(done.certificates) == 1
    told = read_certificate(lake.store, done.certificates[0], lake.keys.verifiers(["pipeline"]))
    assert len(told.objects) == 2
    assert told.wrapped_by in (("data/1",), ("unknown",))
    assert not header.exists()
    assert {path.suffix for path in header.parent.iterdir()} == {".destroyed", ".lost"}


def _why(lake):
    try:
        lake.read("visits/00/0.bin", root="visits")
    except PolicyError as error:
        return error.why
    return None


def _refuse():
    raise ServiceUnavailableError(service="spool", action="write", reason="full")


@pytest.mark.parametrize("attack", ["other signer", "flipped", "moved"])
def test_a_certificate_is_believed_only_where_it_lies_and_signed(lake, shred, attack):
    lake.data_set("visits", 1)
    (uri,) = shred().certificates
    path = next((lake.root / "visits" / "_asml").glob("*.destroyed"))
    verifiers = lake.keys.verifiers(["pipeline"])
    if attack == "other signer":
        verifiers = MemoryKeySystem().verifiers(["pipeline"])
    elif attack == "flipped":
        text = path.read_text()
        at = text.index('"sig":"') + 10
        path.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    else:
        moved = lake.root / "elsewhere" / "_asml"
        moved.mkdir(parents=True)
        (moved / path.name).write_bytes(path.read_bytes())
        uri = lake.uri(f"elsewhere/_asml/{path.name}")

    with pytest.raises((SignatureError, PolicyError)):
        read_certificate(lake.store, uri, verifiers)


def test_no_version_of_a_key_is_needed_for_what_was_shredded(lake, shred):
    lake.data_set("visits", 1)
    lake.data_set("stays", 1)
    shred()

    usage = lake.usage()

    assert usage.counts == {1: 1}
    assert usage.oldest() == 1


@pytest.mark.parametrize("reason", ["", "x" * 10_000, "\udcff"], ids=["none", "long", "no UTF-8"])
def test_no_key_is_destroyed_that_no_certificate_could_speak_of(lake, shred, reason):
    header = lake.data_set("visits", 1)
    before = files(lake.root)

    with pytest.raises(FormatError, match=r"certificate of destruction|not valid UTF-8"):
        shred(reason=reason)

    assert header.exists()
    assert files(lake.root) == before


@pytest.mark.parametrize("planted", ["rubbish", "a stranger's", "another data set's"])
def test_a_planted_certificate_does_not_stand_for_ours(lake, shred, planted):
    header = lake.data_set("visits", 1)
    certificate = header.with_suffix(".destroyed")
    if planted == "rubbish":
        certificate.write_text("{}")
    else:
        other = lake.data_set("stays", 1)
        ours = lake.keys
        lake.keys = MemoryKeySystem() if planted == "a stranger's" else ours
        shred("stays")
        lake.keys = ours
        certificate.write_bytes(other.with_suffix(".destroyed").read_bytes())

    with pytest.raises(SecureMLError, match="remove it"):
        shred()

    assert header.exists()
    assert lake.read("visits/00/0.bin", root="visits") == b"hello"


def test_a_key_under_the_name_of_another_is_refused(lake, shred):
    header = lake.data_set("visits", 1)
    other = lake.data_set("stays", 1)
    kept = header.read_bytes()
    header.write_bytes(other.read_bytes())

    with pytest.raises(FormatError, match="another data-set key than its name says"):
        shred()

    header.write_bytes(kept)
    assert lake.read("visits/00/0.bin", root="visits") == b"hello"


def test_a_key_that_is_rewrapped_meanwhile_goes_too(lake, shred, monkeypatch):
    header = lake.data_set("visits", 1)
    kept, destroy, calls = header.read_bytes(), lake.store.destroy, []

    def struck(uri):
        done = destroy(uri)
        if not calls:
            header.write_bytes(kept)
        calls.append(uri)
        return done

    monkeypatch.setattr(lake.store, "destroy", struck, raising=False)
    done = shred()

    assert not header.exists()
    assert done.destructions[0].copies == 2


def test_a_key_that_always_comes_back_is_no_destroyed_one(lake, shred, monkeypatch):
    header = lake.data_set("visits", 1)
    kept, destroy = header.read_bytes(), lake.store.destroy

    def struck(uri):
        done = destroy(uri)
        header.write_bytes(kept)
        return done

    monkeypatch.setattr(lake.store, "destroy", struck, raising=False)
    with pytest.raises(IntegrityError, match="came back"):
        shred()

    assert not header.with_suffix(".destroyed").exists()
    assert acts(lake)[-1][:2] == ("outcome", "refused")


def test_a_key_with_another_name_elsewhere_is_not_destroyed_there(lake, shred):
    header = lake.data_set("visits", 1)
    (lake.root / "copy" / "_asml").mkdir(parents=True)
    (lake.root / "copy" / "00").mkdir()
    os.link(header, lake.root / "copy" / "_asml" / header.name)
    os.link(lake.root / "visits" / "00" / "0.bin", lake.root / "copy" / "00" / "0.bin")

    with pytest.raises(PolicyError, match="hard links"):
        shred("copy")

    assert lake.read("visits/00/0.bin", root="visits") == b"hello"


@pytest.mark.parametrize("attack", ["changed", "removed"])
def test_a_certificate_without_its_list_says_nothing(lake, shred, attack):
    lake.data_set("visits", 1)
    (uri,) = shred().certificates
    path = next((lake.root / "visits" / "_asml").glob("*.lost"))
    if attack == "changed":
        path.write_bytes(path.read_bytes().replace(b"00/0.bin", b"00/1.bin"))
    else:
        path.unlink()

    with pytest.raises(SignatureError):
        read_certificate(lake.store, uri, lake.keys.verifiers(["pipeline"]))


def test_a_planted_list_is_replaced_by_what_was_lost(lake, shred):
    lake.data_set("visits", 1)
    (uri,) = shred().certificates
    folder = lake.root / "visits" / "_asml"
    listed = next(folder.glob("*.lost"))
    listed.write_bytes(b"planted")
    next(folder.glob("*.destroyed")).unlink()

    (folder / f"{uri.rpartition('/')[2].removesuffix('.destroyed')}.destroying").write_bytes(b"x")
    shred()

    told = read_certificate(lake.store, uri, lake.keys.verifiers(["pipeline"]))
    assert [each.path for each in told.objects] == ["00/0.bin"]

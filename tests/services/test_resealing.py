"""A change of suite in place: everything signed, at once or not at all, and nothing old left."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.crypto_policy import parse_crypto_policy
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.statement import Producer, Statement, Suite, parse
from airflow_secure_ml.errors import (
    CiphertextError,
    FormatError,
    IntegrityError,
    PolicyError,
    SignatureError,
)
from airflow_secure_ml.services.crypto_usage import count_crypto
from airflow_secure_ml.services.governed_keys import GovernedKeys
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.resealing import Asked, reseal_artifact
from airflow_secure_ml.services.sealed_dataset import DataSetRoot, create_dataset_key
from airflow_secure_ml.services.sealing import open_object, seal_object
from airflow_secure_ml.services.signing import (
    Demand,
    check_may_replace,
    sign_artifact,
    verify_artifact,
)
from airflow_secure_ml.testing.ports import MemoryAudit, MemoryKeySystem

TO_2 = {"write": {"suites": ["cobblestone-256"]}}
ONLY_2 = {**TO_2, "read": {"suites": ["cobblestone-256"]}}
MAKER = Producer(dag_id="d", task_id="t", run_id="r", map_index=-1)
PASSED = Suite(name="rows", digest=Digest(algorithm="sha256", hex="a" * 64))
FILES = {"a/one.bin": b"1" * 70000, "b/two.bin": b"", "three.bin": b"3" * (2 << 20)}


class Lake:
    """A lake whose files were written before the policy changed."""

    def __init__(self, root):
        self.root, self.system = root, MemoryKeySystem()
        self.store, self.audit = LocalObjects(), MemoryAudit()

    def keys(self, **policy):
        return GovernedKeys(self.system, parse_crypto_policy(json.dumps(policy)))

    def uri(self, name):
        return self.store.canonical(str(self.root / name))

    def seal(self, writer, path, data, keys, context):
        plain = self.root.parent / "plain"
        plain.write_bytes(data)
        sealed = seal_object(str(plain), writer, keys=keys, context=context)
        plain.unlink()
        return Entry(
            path=path,
            size_bytes=sealed.payload_bytes,
            digest=Digest.parse(sealed.payload_digest),
            core_id=sealed.core_id.hex(),
        )

    def sign(self, uri, entries):
        said = Statement(
            object=uri,
            manifest=Manifest.of(entries),
            act="write",
            signed_ms=1,
            producer=MAKER,
            context={"dag_id": "d"},
            suites=(PASSED,),
        )
        sign_artifact(self.store, said, self.keys().signer("pipeline"))

    def file(self, name, data=b"hello", *, signed=True):
        uri = self.uri(name)
        with self.store.create(uri) as writer:
            context = {"object": uri, "dag_id": "d"}
            entry = self.seal(writer, "", data, [self.keys().wrapper("data")], context)
            writer.commit(replace=True)
        if signed:
            self.sign(uri, [entry])
        return uri

    def data_set(self, name):
        uri = self.uri(name)
        with self.store.create_directory(uri) as directory:

            class Below:
                child = staticmethod(lambda uri, relative: relative)
                create = staticmethod(directory.create)

            shared = {"dataset": uri, "dag_id": "d"}
            key = create_dataset_key(Below, uri, keys=[self.keys().wrapper("data")], context=shared)
            entries = []
            for path, data in FILES.items():
                with directory.create(path) as writer:
                    context = {**shared, "object": self.store.child(uri, path)}
                    entries.append(self.seal(writer, path, data, [key], context))
                    writer.commit(replace=False)
            directory.commit(replace=False)
        self.sign(uri, entries)
        return uri

    def reseal(self, uri, *, store=None, key="data", anew=False, signer="pipeline", **policy):
        keys = self.keys(**(policy or TO_2))
        return reseal_artifact(
            store or self.store,
            Asked(uri=uri, key=key, anew=anew, now_ms=2),
            keys=keys,
            demand=Demand(verifiers=keys.verifiers([signer])),
            signer=keys.signer("pipeline"),
            trail=Journal(self.audit, None, lambda line: None),
        )

    def verified(self, uri):
        return verify_artifact(
            self.store, uri, Demand(verifiers=self.keys().verifiers(["pipeline"]))
        )

    def read(self, uri, root=None, **policy):
        keys = self.keys(**policy).unwrappers()
        keys = [DataSetRoot(self.store, root, keys=keys)] if root else keys
        opened = self.uri("opened")
        with self.store.open(uri) as pinned, self.store.create(opened) as writer:
            open_object(pinned, writer, keys=keys, expect={"object": uri, "dag_id": "d"})
            writer.commit(replace=True)
        data = (self.root / "opened").read_bytes()
        (self.root / "opened").unlink()
        return data

    def usage(self, *names, **policy):
        uris = [self.uri(name) for name in names or ("",)]
        return count_crypto(lambda uri: self.store, uris, self.keys(**policy).crypto_policy)

    def bytes(self):
        return {
            path: path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and ".sig" not in str(path)
        }


@pytest.fixture
def lake(tmp_path):
    (tmp_path / "lake").mkdir()
    return Lake(tmp_path / "lake")


def test_a_file_is_moved_to_the_suite_that_is_written_and_nothing_old_is_left(lake):
    uri = lake.file("table")
    before = lake.verified(uri).digest
    assert lake.usage(**TO_2).old == 1

    done = lake.reseal(uri)

    assert (done.replaced, done.suite, done.files) == (before, 2, 1)
    assert lake.verified(uri).digest == done.digest != before
    assert lake.read(uri, **ONLY_2) == b"hello"
    usage = lake.usage(**TO_2)
    assert usage.as_record() == {
        "sealed_files": 1,
        "suites": {"cobblestone-256": 1},
        "slots": {"local": 1},
        "old": 0,
    }
    usage.refuse_old()


def test_a_data_set_is_moved_whole_under_a_new_key_of_its_own(lake):
    uri = lake.data_set("visits")
    (old_key,) = (lake.root / "visits" / "_asml").iterdir()

    done = lake.reseal(uri)

    (new_key,) = (lake.root / "visits" / "_asml").iterdir()
    assert new_key.name != old_key.name
    assert (done.files, done.suite) == (3, 2)
    for path, data in FILES.items():
        assert lake.read(lake.store.child(uri, path), root=uri, **ONLY_2) == data
    assert lake.verified(uri).digest == done.digest
    assert lake.usage(**TO_2).as_record() == {
        "sealed_files": 4,
        "suites": {"cobblestone-256": 3},
        "slots": {"data-set-key": 3, "local": 1},
        "old": 0,
    }


@pytest.mark.parametrize("kind", ["file", "data_set"])
def test_and_back_again(lake, kind):
    uri = getattr(lake, kind)("x")
    lake.reseal(uri)

    assert lake.reseal(uri, **{"write": {"suites": ["aes256-gcm-1mb"]}}).suite == 1
    assert lake.usage().old == 0


def test_what_it_passed_who_made_it_and_its_context_stay_signed(lake):
    uri = lake.file("table")
    before = lake.verified(uri).digest

    lake.reseal(uri)

    (held,) = lake.verified(uri).statements
    said = held.statement
    assert (said.act, said.producer, said.suites) == ("write", MAKER, (PASSED,))
    assert (said.context, said.signed_ms, said.replaces) == ({"dag_id": "d"}, 2, before)
    assert parse(said.encode()) == said
    check_may_replace(lake.store, uri, MAKER, lake.keys().verifiers(["pipeline"]))


def test_begun_again_what_is_done_stays_as_it_is(lake):
    uri = lake.data_set("visits")
    first = lake.reseal(uri)
    bytes_before, facts = lake.bytes(), len(lake.audit.facts)

    second = lake.reseal(uri)

    assert (second.digest, second.replaced) == (first.digest, None)
    assert (lake.bytes(), len(lake.audit.facts)) == (bytes_before, facts)


def test_to_revoke_it_is_sealed_anew_though_all_is_as_wanted(lake):
    uri = lake.file("table")

    done = lake.reseal(uri, anew=True, **{"write": {"suites": ["aes256-gcm-1mb"]}})

    assert done.replaced is not None
    assert (done.digest, done.suite) != (done.replaced, 2)
    assert lake.read(uri) == b"hello"


def test_another_key_or_a_newer_version_of_it_is_a_reason_to_seal_anew(lake):
    uri = lake.file("table")
    same = {"write": {"suites": ["aes256-gcm-1mb"]}}
    lake.system.rotate("data")

    assert lake.reseal(uri, **same).replaced is not None
    assert lake.reseal(uri, **same).replaced is None
    lake.system.create("other", "wrap")
    assert lake.reseal(uri, key="other", **same).replaced is not None


def test_what_nobody_accepted_signed_stays_as_it_is(lake):
    uri = lake.file("table", signed=False)
    before = lake.bytes()

    with pytest.raises(SignatureError):
        lake.reseal(uri)
    lake.file("signed")
    lake.system.create("stranger", "sign")
    with pytest.raises(PolicyError) as caught:
        lake.reseal(lake.uri("signed"), signer="stranger")
    assert caught.value.why == "signer_not_accepted"
    assert {path: lake.bytes()[path] for path in before} == before


@pytest.mark.parametrize("place", [560, -1], ids=["payload", "end"])
def test_an_altered_file_is_not_signed_anew(lake, place):
    uri = lake.file("table")
    path = lake.root / "table"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    statements = sorted((lake.root / "table.sig").iterdir())

    with pytest.raises((CiphertextError, IntegrityError)):
        lake.reseal(uri)

    assert path.read_bytes() == bytes(data)
    assert sorted((lake.root / "table.sig").iterdir()) == statements


def test_a_plain_file_is_refused(lake):
    (lake.root / "plain").write_bytes(b"a,b\n")
    entry = Entry(
        path="",
        size_bytes=4,
        digest=Digest(algorithm="sha256", hex=hashlib.sha256(b"a,b\n").hexdigest()),
    )
    lake.sign(lake.uri("plain"), [entry])

    with pytest.raises(FormatError, match="plain, expected a sealed file"):
        lake.reseal(lake.uri("plain"))


class Interrupted(LocalObjects):
    """A store that fails in the middle of the third file, or right before the commit."""

    def __init__(self, at):
        super().__init__()
        self._at = at

    def create_directory(self, uri):
        return Failing(super().create_directory(uri), self._at)


class Failing:
    def __init__(self, directory, at):
        self._directory, self._at, self._created = directory, at, 0

    def __getattr__(self, name):
        return getattr(self._directory, name)

    def __enter__(self):
        self._directory.__enter__()
        return self

    def __exit__(self, *exception):
        return self._directory.__exit__(*exception)

    def create(self, path):
        self._created += 1
        if self._created == self._at:
            raise PolicyError("stop", why="address_taken")
        return self._directory.create(path)

    def commit(self, *, replace):
        if self._at == 0:
            raise PolicyError("stop", why="address_taken")
        return self._directory.commit(replace=replace)


@pytest.mark.parametrize("at", [1, 2, 4, 0], ids=["key", "first", "last", "commit"])
def test_interrupted_anywhere_the_old_one_is_whole_and_begun_again_it_finishes(lake, at):
    uri = lake.data_set("visits")
    before, digest = lake.bytes(), lake.verified(uri).digest

    with pytest.raises(PolicyError, match="stop"):
        lake.reseal(uri, store=Interrupted(at))

    assert lake.bytes() == before
    assert lake.verified(uri).digest == digest
    assert [fact.result for fact in lake.audit.facts if fact.phase == "outcome"] == ["refused"]
    assert lake.reseal(uri).suite == 2
    assert lake.usage(**TO_2).old == 0


def test_who_replaced_a_file_meanwhile_is_not_overwritten(lake):
    uri = lake.file("table")

    class Racing(LocalObjects):
        def create(self, address):
            if address == uri:
                lake.file("table", b"newer")
            return super().create(address)

    with pytest.raises(IntegrityError):
        lake.reseal(uri, store=Racing())
    assert lake.read(uri) == b"newer"


def test_who_replaced_a_file_of_a_data_set_meanwhile_is_not_overwritten(lake):
    uri = lake.data_set("visits")

    class Racing(LocalObjects):
        def create_directory(self, address):
            shutil.rmtree(lake.root / "visits")
            lake.data_set("visits")
            return super().create_directory(address)

    raced = Racing()
    with pytest.raises((PolicyError, IntegrityError, FileNotFoundError)):
        lake.reseal(uri, store=raced)

    for path, data in FILES.items():
        assert lake.read(lake.store.child(uri, path), root=uri) == data
    assert lake.usage("visits").suites == {"aes256-gcm-1mb": 3}


def test_who_replaced_a_data_set_after_all_of_it_was_read_is_not_overwritten(lake):
    uri = lake.data_set("visits")
    raced = []

    class Racing(LocalObjects):
        def create(self, address):
            if address.startswith(f"{uri}.sig/") and not raced:
                raced.append(address)
                shutil.rmtree(lake.root / "visits")
                lake.data_set("visits")
            return super().create(address)

    with pytest.raises(PolicyError, match="somebody replaced it"):
        lake.reseal(uri, store=Racing())

    assert raced, "it was replaced between the last file and the commit"
    for path, data in FILES.items():
        assert lake.read(lake.store.child(uri, path), root=uri) == data
    assert lake.usage("visits").suites == {"aes256-gcm-1mb": 3}


def test_the_trail_says_what_replaced_what(lake):
    uri = lake.file("table")

    done = lake.reseal(uri)

    intent, outcome = lake.audit.facts
    assert (intent.act, intent.phase, intent.object["digest"]) == (
        "object.publish",
        "intent",
        done.replaced,
    )
    assert (outcome.result, outcome.object["digest"]) == ("ok", done.digest)
    assert outcome.more["replaced"] == done.replaced


def test_a_count_says_what_is_old_and_a_count_of_nothing_proves_nothing(lake):
    uri = lake.file("table")

    with pytest.raises(PolicyError, match="1 of 1 sealed objects") as caught:
        lake.usage("table", **TO_2).refuse_old()
    assert caught.value.why == "rule_denied"
    assert uri in str(caught.value)
    assert lake.usage(write={"slots": ["vault"]}).old == 1
    (lake.root / "empty").mkdir()
    (lake.root / "empty" / "plain").write_text("x")
    with pytest.raises(PolicyError) as nothing:
        lake.usage("empty").refuse_old()
    assert nothing.value.why == "not_checkable"


def test_a_broken_file_is_a_hole_in_the_count(lake):
    lake.file("table")
    path = lake.root / "table"
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(FormatError):
        lake.usage()

"""Attacks on a crypto policy: what may not be read or written any more, by whatever way."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import pickle
from dataclasses import replace

import pytest

from airflow_secure_ml.core import dsse
from airflow_secure_ml.core.crypto_policy import parse_crypto_policy
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    PolicyError,
    SignatureError,
)
from airflow_secure_ml.services.governed_keys import GovernedKeys
from airflow_secure_ml.services.key_choice import opening_keys, sealing_keys
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealed_dataset import DataSetRoot, create_dataset_key
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealed_values import OwnerKeys, open_value, seal_value
from airflow_secure_ml.services.sealing import open_object, seal_object
from airflow_secure_ml.services.signing import Demand, sign_artifact, verify_artifact
from airflow_secure_ml.testing.memory_objects import MemoryObjects
from airflow_secure_ml.testing.ports import MemoryKeySystem

URI = "file:///lake/a"
ROOT = "file:///lake/set"
ONLY_2 = {"suites": ["cobblestone-256"]}


class Spied:
    """A key that remembers whether it was asked."""

    def __init__(self, key, asked):
        self._key, self._asked = key, asked

    def __getattr__(self, name):
        return getattr(self._key, name)

    def wrap(self, *given):
        self._asked.append("wrap")
        return self._key.wrap(*given)

    def unwrap(self, *given):
        self._asked.append("unwrap")
        return self._key.unwrap(*given)


class SpiedKeys(MemoryKeySystem):
    def __init__(self, *given):
        self.asked = []
        super().__init__(*given)

    def wrapper(self, name):
        return Spied(super().wrapper(name), self.asked)

    def unwrappers(self, names=None):
        return [Spied(key, self.asked) for key in super().unwrappers(names)]


class Site:
    def __init__(self):
        self.system = SpiedKeys()
        self.store = MemoryObjects()

    def keys(self, **parts):
        return GovernedKeys(self.system, parse_crypto_policy(json.dumps(parts)))

    def seal(self, keys, *, uri=URI, data=b"hello", **more):
        with self.store.create(uri) as writer:
            sealed = seal_object(
                io.BytesIO(data),
                writer,
                keys=keys,
                context={"object": uri},
                plaintext_bytes=len(data),
                **more,
            )
            writer.commit(replace=True)
        return sealed

    def open(self, keys, uri=URI):
        out = io.BytesIO()
        with self.store.open(uri) as pinned:
            open_object(pinned, out, keys=keys, expect=ANY_CONTEXT)
        return out.getvalue()


@pytest.fixture
def site():
    return Site()


def denied(what):
    return pytest.raises(PolicyError, match=what)


def test_the_first_suite_of_the_policy_is_written_and_no_caller_says_so(site):
    sealed = site.seal([site.keys(write=ONLY_2).wrapper("data")])

    assert sealed.suite == 2
    assert site.store.objects[URI][9] == 2
    assert site.open(site.keys().unwrappers()) == b"hello"


@pytest.mark.parametrize("way", ["open", "stream", "rewrap", "data set"])
def test_a_file_of_a_suite_that_is_not_read_is_refused_before_a_key_is_asked(site, way):
    plain_keys = site.keys()
    writer = [plain_keys.wrapper("data")]
    if way == "data set":
        writer = [create_dataset_key(site.store, ROOT, keys=writer, context={"object": URI})]
    site.seal(writer)
    site.system.asked.clear()
    readers = site.keys(write=ONLY_2, read=ONLY_2).unwrappers()

    with (
        denied(r"aes256-gcm-1mb: \[secure_ml\] crypto_policy \(read.suites\)") as caught,
        site.store.open(URI) as pinned,
    ):
        if way == "stream":
            SealedReader(pinned, keys=readers, expect=ANY_CONTEXT)
        elif way == "rewrap":
            rewrap_object(pinned, None, readers=readers, keys=writer, expect=ANY_CONTEXT)
        else:
            root = DataSetRoot(site.store, ROOT, keys=readers)
            keys = [root] if way == "data set" else readers
            open_object(pinned, io.BytesIO(), keys=keys, expect=ANY_CONTEXT)

    assert caught.value.why == "rule_denied"
    assert site.system.asked == []


def test_a_file_whose_suite_was_edited_to_one_that_is_read_does_not_open(site):
    site.seal([site.keys().wrapper("data")])
    file = bytearray(site.store.objects[URI])
    file[9] = 2
    site.store.put(URI, bytes(file))

    with pytest.raises(CiphertextError):
        site.open(site.keys(write=ONLY_2, read=ONLY_2).unwrappers())


@pytest.mark.parametrize("suite", [1, 2])
def test_a_caller_that_asks_for_another_suite_is_refused(site, suite):
    allowed = {1: ONLY_2, 2: {"suites": ["aes256-gcm-1mb"]}}[suite]
    keys = [site.keys(write=allowed).wrapper("data")]

    with denied("write.suites"):
        site.seal(keys, suite=suite)
    assert (URI in site.store.objects, site.system.asked) == (False, [])


def test_a_slot_that_is_not_written_is_not_wrapped(site):
    keys = [site.keys(write={"slots": ["vault"]}).wrapper("data")]

    with denied(r"local: .*write.slots.* lets only vault be written"):
        site.seal(keys)
    with denied("write.slots"):
        create_dataset_key(site.store, ROOT, keys=keys, context={"a": "b"})
    assert site.system.asked == []


def test_a_slot_that_is_not_read_is_not_unwrapped(site):
    site.seal([site.keys().wrapper("data")])
    site.system.asked.clear()

    with denied(r"local: .*read.slots.* lets only vault"):
        site.open(site.keys(read={"slots": ["vault"]}).unwrappers())
    assert site.system.asked == []


@pytest.mark.parametrize("post_quantum", [False, True], ids=["classical", "hybrid"])
def test_an_hpke_slot_is_told_by_its_kind(site, post_quantum):
    site.system.create("partner", "receive", post_quantum=post_quantum)
    names = ["hpke-x25519", "hpke-mlkem768-x25519"]
    name, other = names[post_quantum], names[not post_quantum]

    with denied(f"{name}: .*write.slots"):
        site.seal(sealing_keys(site.keys(write={"slots": ["local", other]}), ["partner"]))
    assert URI not in site.store.objects
    site.seal(sealing_keys(site.keys(write={"slots": [name]}), ["partner"]))
    assert site.open(opening_keys(site.keys(), ["partner"])) == b"hello"
    with denied(f"{name}: .*read.slots"):
        site.open(opening_keys(site.keys(read={"slots": ["local", other]}), ["partner"]))


def test_a_data_set_key_is_under_the_policy_of_the_key_above_it(site):
    above = site.keys(write=ONLY_2, read=ONLY_2)
    made = create_dataset_key(
        site.store, ROOT, keys=[above.wrapper("data")], context={"object": URI}
    )
    found = DataSetRoot(site.store, ROOT, keys=above.unwrappers()).dataset_key(made.slot_id)

    for key in (made, found):
        assert site.seal([key]).suite == 2
        with denied("write.suites"):
            site.seal([key], suite=1)
    forbidding = site.keys(write={"slots": ["local"]})
    key = create_dataset_key(
        site.store, ROOT, keys=[forbidding.wrapper("data")], context={"object": URI}
    )
    with denied("data-set-key: .*write.slots"):
        site.seal([key])


def test_sealed_values_are_under_the_policy(site):
    def owner(keys):
        return OwnerKeys(site.store, ROOT, keys=keys, wrap_key="data", open_keys=["data"])

    context = {"dag_id": "d"}
    writing = owner(site.keys(write=ONLY_2))
    value = seal_value(b"v", key=writing.sealing_key("d", context), context=context)

    assert value[9] == 2
    opened = open_value(value, name="x", keys=owner(site.keys()).of("d"), expect=context)
    assert opened.plaintext == b"v"
    one = owner(site.keys(read={"suites": ["aes256-gcm-1mb"]}))
    with denied("cobblestone-256: .*read.suites"):
        open_value(value, name="x", keys=one.of("d"), expect=context)


def test_two_deployments_keys_together_write_what_both_allow(site):
    one, two = site.keys().wrapper("data"), site.keys(write=ONLY_2).wrapper("data")

    with denied("write.suites"):
        site.seal([one, two])


def statement(algorithm="sha256", data=b"plain"):
    digest = Digest(algorithm=algorithm, hex=hashlib.sha256(data).hexdigest())
    entry = Entry(path="", size_bytes=len(data), digest=digest)
    return Statement(object=URI, manifest=Manifest.of([entry]), act="sign", signed_ms=1)


def test_a_signature_of_a_type_that_is_not_written_is_not_given_out(site):
    keys = site.keys(write={"signatures": ["ml-dsa-65"]})

    with denied("ed25519: .*write.signatures"):
        sign_artifact(site.store, statement(), keys.signer("pipeline"))
    assert site.store.objects == {}


def test_a_statement_signed_only_with_a_type_no_longer_accepted_does_not_count(site):
    site.store.put(URI, b"plain")
    sign_artifact(site.store, statement(), site.keys().signer("pipeline"))
    verifiers = site.keys().verifiers(["pipeline"])
    assert verify_artifact(site.store, URI, Demand(verifiers=verifiers)).statements

    late = site.keys(read={"signatures": ["ml-dsa-65"]}).verifiers(["pipeline"])
    with denied(r"pipeline.1: ed25519: .*read.signatures.* only ml-dsa-65") as caught:
        verify_artifact(site.store, URI, Demand(verifiers=late))
    assert caught.value.why == "rule_denied"


ONLY_ED, ONLY_PQ = {"signatures": ["ed25519"]}, {"signatures": ["ml-dsa-65"]}


@pytest.fixture
def twice(site):
    """A key that signs twice, and an envelope that it signed."""
    site.system.create("both", "sign", post_quantum=True)
    return dsse.sign(b"{}", [site.keys().signer("both")])


@pytest.mark.parametrize("read", [{}, ONLY_ED, ONLY_PQ], ids=["both", "ed25519", "ml-dsa-65"])
def test_a_key_that_signs_twice_counts_while_either_type_is_read(site, twice, read):
    verifiers = site.keys(read=read).verifiers(["both"])

    assert [len(each.value) for each in twice.signatures] == [64, 3309]
    assert dsse.verify(twice, verifiers)[0] == b"{}"


@pytest.mark.parametrize("read", [{}, ONLY_ED, ONLY_PQ], ids=["both", "ed25519", "ml-dsa-65"])
@pytest.mark.parametrize("left", [0, 1], ids=["first", "second"])
def test_no_policy_lets_one_of_two_signatures_be_stripped(site, twice, left, read):
    stripped = replace(twice, signatures=(twice.signatures[left],))

    with pytest.raises((SignatureError, PolicyError)):
        dsse.verify(stripped, site.keys(read=read).verifiers(["both"]))


def test_a_key_that_signs_once_does_not_pass_for_one_of_another_type(site):
    """Ed25519 under a name and length of one's choosing is no ML-DSA."""
    signer = site.keys().signer("pipeline")
    envelope = dsse.sign(b"{}", [signer])
    padded = replace(
        envelope,
        signatures=(dsse.Signature(key=str(signer.ref), value=bytes(3309)), *envelope.signatures),
    )

    with pytest.raises((SignatureError, PolicyError)):
        dsse.verify(padded, site.keys(read=ONLY_PQ).verifiers(["pipeline"]))


@pytest.mark.parametrize("write", [ONLY_ED, ONLY_PQ], ids=["ed25519", "ml-dsa-65"])
def test_a_key_that_signs_twice_does_not_quietly_sign_once(site, twice, write):
    with denied("write.signatures"):
        dsse.sign(b"{}", [site.keys(write=write).signer("both")])


def test_a_digest_that_is_not_written_or_read_is_refused_in_statements(site):
    site.store.put(URI, b"plain")
    old = site.keys()
    blake3 = {"digests": ["blake3"]}
    with denied("sha256: .*write.digests"):
        sign_artifact(site.store, statement(), site.keys(write=blake3).signer("pipeline"))
    sign_artifact(site.store, statement(), old.signer("pipeline"))

    late = site.keys(write=blake3, read=blake3).verifiers(["pipeline"])
    with denied("sha256: .*read.digests"):
        verify_artifact(site.store, URI, Demand(verifiers=late))


def test_the_policys_digest_is_taken_while_sealing(site):
    pytest.importorskip("blake3")
    sealed = site.seal([site.keys(write={"digests": ["blake3", "sha256"]}).wrapper("data")])

    assert sealed.payload_digest.startswith("blake3:")


def test_a_governed_key_shows_no_secret_and_is_not_pickled(site):
    keys = GovernedKeys(MemoryKeySystem(), site.keys().crypto_policy)
    key = keys.wrapper("data")

    assert repr(key) == "GovernedKey(KekWrapper('data/1', key=***))"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)
    assert copy.copy(keys).wrapper("data").crypto_policy == keys.crypto_policy


def test_rewrapping_blind_is_under_the_policy(site):
    keys = site.keys(write={"slots": ["vault"]})

    with denied("local: .*write.slots"):
        keys.rewrap("data", [(b"x", bytes(32))])
    with pytest.raises(ConfigurationError):
        site.keys().rewrap("data", [(b"x", bytes(32))])

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.sealed_file.header import encode_header, make_core
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.core.statement import Producer, Statement, Suite
from airflow_secure_ml.errors import (
    ConfigurationError,
    IntegrityError,
    ManifestMismatchError,
    PolicyError,
    SignatureError,
)
from airflow_secure_ml.services import signing
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.signing import (
    Demand,
    check_may_replace,
    find_statements,
    sign_artifact,
    statements_for,
    verify_artifact,
)
from airflow_secure_ml.testing.ports import MemoryKeySystem, MemoryObjects
from tests.signing_keys import MALLORY, PIPELINE, RELEASE, Key

STORE = LocalObjects()
PATIENTS = Suite(name="patients", digest=Digest(algorithm="sha256", hex="5" * 64))
TRAIN = Producer(dag_id="churn", task_id="train", run_id="run 1")


TRUSTED = Demand(verifiers=[PIPELINE])


def sealed(payload: bytes, *, file_key: int = 1, slots: tuple[str, ...] = ("data/1",)) -> bytes:
    """A sealed file as it looks from outside; nobody opens it here."""
    key = bytes([file_key]) * 32
    core = make_core(1, key, {"object": "file:///x"})
    wrapped = [Slot(type=1, id=each, body=b"\0" * 40) for each in slots]
    return encode_header(core, wrapped, key, plaintext_bytes=5) + payload


def sign(path: Path, key: Key = PIPELINE, *, at: Path | None = None, **said):
    """Sign what lies at `path`, for the address of `at`."""
    statement = Statement(
        **{
            "object": STORE.canonical(str(at or path)),
            "manifest": build_manifest(STORE, STORE.canonical(str(path))),
            "act": "write",
            "signed_ms": 1,
            "producer": TRAIN,
            **said,
        }
    )
    return sign_artifact(STORE, statement, key)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(sealed(b"payload"))
    return path


def uri_of(path: Path) -> str:
    return STORE.canonical(str(path))


def verify(path: Path, demand: Demand = TRUSTED):
    """Both ways to verify must agree; the result is the whole pass's."""
    manifest = build_manifest(STORE, uri_of(path))
    early = statements_for(STORE, uri_of(path), demand).match(manifest)
    whole = verify_artifact(STORE, uri_of(path), demand)
    assert early.manifest == whole.manifest
    assert set(early.signers) == set(whole.signers)
    return whole


def refusal(path: Path, demand: Demand = TRUSTED):
    """The refusal, which both ways must agree on."""
    with pytest.raises((IntegrityError, PolicyError)) as whole:
        verify_artifact(STORE, uri_of(path), demand)
    manifest = build_manifest(STORE, uri_of(path))
    with pytest.raises((IntegrityError, PolicyError)) as early:
        statements_for(STORE, uri_of(path), demand).match(manifest)
    assert (type(early.value), early.value.why) == (type(whole.value), whole.value.why)
    return whole.value


def only_statement(path: Path) -> Path:
    (found,) = Path(f"{path}.sig").iterdir()
    return found


def test_a_signed_artifact_is_verified_without_a_key_to_open(model):
    signed = sign(model, suites=(PATIENTS,), context={"site": "4"})

    verified = verify(model, Demand(verifiers=[PIPELINE], context={"site": "4"}))

    assert verified.digest == signed.digest
    assert verified.signers == (PIPELINE.ref,)
    assert verified.suites == (PATIENTS,)
    assert verified.statement.producer == TRAIN


def test_a_statement_is_filed_under_digest_key_and_version(model):
    signed = sign(model)

    name = only_statement(model).name
    assert name == f"{signed.digest.replace(':', '-')}.pipeline.3"
    assert signed.uri == f"{uri_of(model)}.sig/{name}"


def test_a_directory_is_signed_as_one(tmp_path):
    folder = tmp_path / "data set"
    folder.mkdir()
    (folder / "a").write_bytes(sealed(b"a"))
    (folder / "b").write_bytes(b"plain")
    sign(folder)

    assert [entry.path for entry in verify(folder).manifest.entries] == ["a", "b"]


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_the_signers_algorithm_is_the_readers(model, algorithm):
    manifest = build_manifest(STORE, uri_of(model), algorithm=algorithm)
    sign(model, manifest=manifest)

    candidates = statements_for(STORE, uri_of(model), TRUSTED)

    assert candidates.algorithm == algorithm
    assert candidates.match(manifest) == verify_artifact(STORE, uri_of(model), TRUSTED)


def test_an_altered_payload_is_refused_under_blake3_too(model):
    sign(model, manifest=build_manifest(STORE, uri_of(model), algorithm="blake3"))
    model.write_bytes(sealed(b"pAyload"))

    with pytest.raises(ManifestMismatchError):
        verify_artifact(STORE, uri_of(model), TRUSTED)


def test_not_signed_is_said(model):
    error = refusal(model)

    assert isinstance(error, SignatureError)
    assert error.why == "not_signed"


def test_an_altered_payload_is_refused(model):
    sign(model)
    model.write_bytes(sealed(b"pAyload"))

    error = refusal(model)

    assert isinstance(error, ManifestMismatchError)
    assert error.changed == ("",)


def test_a_cut_payload_is_refused(model):
    sign(model)
    model.write_bytes(sealed(b"payloa"))

    assert isinstance(refusal(model), ManifestMismatchError)


def test_another_file_with_the_same_payload_is_refused(model):
    sign(model)
    model.write_bytes(sealed(b"payload", file_key=2))

    assert isinstance(refusal(model), ManifestMismatchError)


def test_a_plain_file_in_a_sealed_ones_place_is_refused(model):
    sign(model)
    model.write_bytes(b"payload")

    assert isinstance(refusal(model), ManifestMismatchError)


def test_a_rewrap_leaves_the_signature_valid(model):
    sign(model)
    model.write_bytes(sealed(b"payload", slots=tuple(f"data/{n}" for n in range(2, 60))))

    assert verify(model).signers == (PIPELINE.ref,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "c").write_bytes(b"new"), ("added", ("c",))),
        (lambda folder: (folder / "a").unlink(), ("missing", ("a",))),
        (lambda folder: (folder / "a").write_bytes(b"B"), ("changed", ("a",))),
        (lambda folder: shutil.copy(folder / "a", folder / "b"), ("changed", ("b",))),
    ],
    ids=["added", "missing", "changed", "copied"],
)
def test_another_set_of_files_is_refused(tmp_path, change, named):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    sign(folder)
    change(folder)

    error = refusal(folder)

    assert isinstance(error, ManifestMismatchError)
    assert getattr(error, named[0]) == named[1]


def test_a_statement_that_lists_one_file_more_is_refused(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    sign(folder)
    (folder / "b").unlink()
    now = build_manifest(STORE, uri_of(folder)).digest.replace(":", "-")
    statement = only_statement(folder)
    statement.rename(statement.with_name(f"{now}.pipeline.3"))

    assert refusal(folder).why == "signature_invalid"


def test_a_forged_signature_is_refused(model):
    sign(model, MALLORY)

    error = refusal(model)

    assert isinstance(error, SignatureError)
    assert error.why == "signature_invalid"


def test_a_forged_statement_beside_a_good_one_changes_nothing(model):
    sign(model)
    sign(model, MALLORY, suites=(PATIENTS,))

    verified = verify(model)

    assert verified.suites == ()
    assert len(verified.statements) == 1


def test_signed_by_others_only_is_not_accepted(model):
    sign(model, RELEASE)

    error = refusal(model)

    assert isinstance(error, PolicyError)
    assert error.why == "signer_not_accepted"
    assert "release/1" in str(error)


def test_signatures_are_added_and_each_counts(model):
    sign(model)
    sign(model, RELEASE, act="sign", signed_ms=2, suites=(PATIENTS,), producer=None)

    verified = verify(model, Demand(verifiers=[RELEASE, PIPELINE]))

    assert set(verified.signers) == {PIPELINE.ref, RELEASE.ref}
    assert verified.suites == (PATIENTS,)
    assert verified.statement.producer == TRAIN


def test_the_same_bytes_signed_again_add_a_statement(model):
    first = sign(model)
    before = only_statement(model).read_bytes()

    again = sign(model, producer=Producer(dag_id="churn", task_id="train", run_id="run 2"))

    assert again.uri == first.uri + ".2"
    assert Path(first.uri.removeprefix("file://")).read_bytes() == before
    for run_id in ("run 1", "run 2"):
        verify(model, Demand(verifiers=[PIPELINE], produced_by=("churn", run_id)))


def test_another_objects_file_and_statement_under_this_name_are_refused(tmp_path, model):
    other = tmp_path / "other"
    other.write_bytes(sealed(b"other patient", file_key=7))
    sign(other)
    sign(model)
    shutil.copy(other, model)
    shutil.copy(only_statement(other), Path(f"{model}.sig"))

    error = refusal(model)

    assert isinstance(error, PolicyError)
    assert error.why == "context_differs"


def test_a_copy_is_verified_by_a_same_as_rule_only(tmp_path, model):
    sign(model)
    copy = tmp_path / "copy"
    shutil.copy(model, copy)
    shutil.copytree(f"{model}.sig", f"{copy}.sig")

    assert refusal(copy).why == "context_differs"
    assert verify(copy, Demand(verifiers=[PIPELINE], same_as=uri_of(model))).signers


def test_a_replayed_older_artifact_is_refused_where_its_digest_is_pinned(model):
    old = model.read_bytes()
    sign(model)
    model.write_bytes(sealed(b"newer payload", file_key=2))
    newer = sign(model, signed_ms=2)
    model.write_bytes(old)

    error = refusal(model, Demand(verifiers=[PIPELINE], digest=newer.digest))

    assert error.why == "digest_differs"
    # A bare address is not protected against replay, and the documentation says so.
    assert verify(model).digest != newer.digest


def test_a_pinned_artifact_is_verified(model):
    signed = sign(model)

    assert verify(model, Demand(verifiers=[PIPELINE], digest=signed.digest))


@pytest.mark.parametrize("pin", ["", "sha256:", "ü", "../../etc", "sha256:" + "0" * 64])
def test_a_pin_that_is_another_or_no_digest_is_refused(model, pin):
    sign(model)

    assert refusal(model, Demand(verifiers=[PIPELINE], digest=pin)).why == "digest_differs"


def test_stores_and_keys_in_memory_serve_as_well():
    store, keys = MemoryObjects(), MemoryKeySystem()
    store.put("file:///a/b", b"plain")
    uri = "file:///a/b"
    said = Statement(object=uri, manifest=build_manifest(store, uri), act="sign", signed_ms=1)
    signed = sign_artifact(store, said, keys.signer("pipeline"))

    demand = Demand(verifiers=keys.verifiers(["pipeline"]), digest=signed.digest)
    assert verify_artifact(store, uri, demand).statements == (signed,)


def test_a_forged_pin_to_an_unsigned_artifact_is_refused(model):
    digest = build_manifest(STORE, uri_of(model)).digest

    assert refusal(model, Demand(verifiers=[PIPELINE], digest=digest)).why == "not_signed"


@pytest.mark.parametrize("by", [("churn", "run 2"), ("other", "run 1")], ids=["run", "dag"])
def test_a_reference_of_another_run_is_refused(model, by):
    signed = sign(model)

    demand = Demand(verifiers=[PIPELINE], digest=signed.digest, produced_by=by)
    assert refusal(model, demand).why == "context_differs"


def test_a_statement_without_a_task_is_no_references(model):
    sign(model, producer=None)

    demand = Demand(verifiers=[PIPELINE], produced_by=("churn", "run 1"))
    assert refusal(model, demand).why == "context_differs"


@pytest.mark.parametrize("context", [{"site": "5"}, {"other": ""}], ids=["value", "missing"])
def test_another_context_than_demanded_is_refused(model, context):
    sign(model, context={"site": "4"})

    error = refusal(model, Demand(verifiers=[PIPELINE], context=context))

    assert isinstance(error, PolicyError)
    assert error.why == "context_differs"


def edit(path: Path, change) -> None:
    record = json.loads(path.read_bytes())
    change(record)
    path.write_bytes(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())


def claim_a_suite(record):
    said = json.loads(base64.b64decode(record["payload"]))
    said["predicate"]["suites"] = [{"digest": "sha256:" + "5" * 64, "name": "patients"}]
    record["payload"] = base64.b64encode(
        json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    ).decode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b" "),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_bytes(b'{"payload":"","payload":""' + path.read_bytes()[1:]),
        lambda path: os.truncate(path, 4 << 20),
        lambda path: edit(path, lambda record: record.update(payloadType="text/plain")),
        lambda path: edit(path, lambda record: record.update(signatures=[])),
        lambda path: edit(path, claim_a_suite),
    ],
    ids=["empty", "cut", "longer", "deep", "twice", "huge", "type", "bare", "suite"],
)
def test_an_edited_statement_is_refused(model, spoil):
    sign(model)
    spoil(only_statement(model))

    error = refusal(model)

    assert isinstance(error, SignatureError)
    assert error.why == "signature_invalid"


def test_a_huge_statement_is_refused_unread(model):
    sign(model)
    os.truncate(only_statement(model), 1 << 40)

    assert "bytes are no statement here" in str(refusal(model))


def test_a_statement_filed_under_another_digest_is_refused(model):
    sign(model)
    statement = only_statement(model)
    model.write_bytes(sealed(b"evil payload"))
    evil = build_manifest(STORE, uri_of(model)).digest.replace(":", "-")
    statement.rename(statement.with_name(f"{evil}.pipeline.3"))

    error = refusal(model)

    assert isinstance(error, SignatureError)
    assert error.why == "signature_invalid"


def test_a_link_does_not_give_a_statement_another_digest(model):
    sign(model)
    statement = only_statement(model)
    model.write_bytes(sealed(b"evil payload"))
    evil = build_manifest(STORE, uri_of(model)).digest.replace(":", "-")
    statement.with_name(f"{evil}.pipeline.3").symlink_to(statement.name)

    assert isinstance(refusal(model), ManifestMismatchError)


@pytest.mark.parametrize(
    "plant",
    [
        lambda folder: (folder / "sha256-x").symlink_to("/etc/passwd"),
        lambda folder: os.mkfifo(folder / "sha256-x"),
        lambda folder: os.mknod(folder / "x", 0o600 | 0o020000, os.makedev(1, 3)),
    ],
    ids=["link", "fifo", "device"],
)
def test_links_and_devices_among_statements_are_refused(model, plant):
    sign(model)
    try:
        plant(Path(f"{model}.sig"))
    except PermissionError:
        pytest.skip("making devices needs root")

    error = refusal(model)

    assert isinstance(error, SignatureError)
    assert error.why == "signature_invalid"


def test_other_files_among_statements_are_not_read(model):
    sign(model)
    (Path(f"{model}.sig") / "README").write_bytes(b"what these files are")

    assert len(find_statements(STORE, uri_of(model))) == 1


def test_many_statements_are_searched_by_digest(model, monkeypatch):
    monkeypatch.setattr(signing, "MAX_UNPINNED", 2)
    for number in range(4):
        model.write_bytes(sealed(b"%d" % number, file_key=number))
        sign(model, signed_ms=number)

    assert verify(model).statement.signed_ms == 3


def test_bytes_that_differ_from_the_candidates_are_refused(tmp_path, model):
    sign(model)
    candidates = statements_for(STORE, uri_of(model), TRUSTED)
    model.write_bytes(sealed(b"pAyload"))

    with pytest.raises(ManifestMismatchError):
        candidates.match(build_manifest(STORE, uri_of(model)))


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "ü"])
def test_a_key_whose_name_is_no_file_name_is_refused(model, name):
    with pytest.raises(ConfigurationError):
        sign(model, Key(name, "1", 1))


def test_the_task_that_wrote_may_replace(model):
    again = Producer(dag_id="churn", task_id="train", run_id="run 2")
    check_may_replace(STORE, uri_of(model) + "-new", again, [PIPELINE])
    sign(model)

    check_may_replace(STORE, uri_of(model), again, [PIPELINE])
    model.write_bytes(b"altered since")
    check_may_replace(STORE, uri_of(model), again, [PIPELINE])


@pytest.mark.parametrize(
    "producer",
    [
        Producer(dag_id="other", task_id="train", run_id="run 1"),
        Producer(dag_id="churn", task_id="other", run_id="run 1"),
        Producer(dag_id="churn", task_id="train", run_id="run 1", map_index=0),
    ],
    ids=["dag", "task", "map"],
)
def test_anyone_else_may_not_replace(model, producer):
    sign(model)

    with pytest.raises(PolicyError) as caught:
        check_may_replace(STORE, uri_of(model), producer, [PIPELINE])

    assert caught.value.why == "address_taken"


@pytest.mark.parametrize("signed_by", [None, MALLORY, RELEASE], ids=["nobody", "forger", "other"])
def test_what_no_accepted_signer_wrote_may_not_be_replaced(model, signed_by):
    if signed_by is not None:
        sign(model, signed_by)

    with pytest.raises(PolicyError) as caught:
        check_may_replace(STORE, uri_of(model), TRAIN, [PIPELINE])

    assert caught.value.why == "address_taken"


def test_vouching_for_an_artifact_is_not_owning_it(model):
    sign(model)
    approve = Producer(dag_id="approve", task_id="sign", run_id="1")
    sign(model, act="sign", signed_ms=5, producer=approve)

    with pytest.raises(PolicyError):
        check_may_replace(STORE, uri_of(model), approve, [PIPELINE])

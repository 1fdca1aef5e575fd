from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core import dsse, statement
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Commitment, Entry, Manifest
from airflow_secure_ml.core.statement import Producer, Statement
from airflow_secure_ml.errors import (
    IntegrityError,
    ManifestMismatchError,
    PolicyError,
    SignatureError,
)
from airflow_secure_ml.services import manifest_files, signing, statement_files
from airflow_secure_ml.services.manifest_files import keep_manifest, read_manifest
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.signing import (
    Demand,
    find_statements,
    sign_artifact,
    statements_for,
    verify_artifact,
)
from airflow_secure_ml.services.statement_files import read_statements, signed_manifest
from tests.signing_keys import MALLORY, PIPELINE

STORE = LocalObjects()
TRUSTED = Demand(verifiers=[PIPELINE])
ZERO = Digest(algorithm="sha256", hex="0" * 64)


@pytest.fixture
def folder(tmp_path):
    """A directory whose statement does not hold its manifest."""
    path = tmp_path / "set"
    fill(path)
    return path


def fill(path: Path, files: int = 50, text: str = "row") -> None:
    path.mkdir(exist_ok=True)
    for number in range(files):
        (path / f"part-{number:04}.csv").write_text(f"{text} {number:04}")


def uri_of(path: Path) -> str:
    return STORE.canonical(str(path))


def said_of(path: Path, **more) -> Statement:
    uri = uri_of(path)
    return Statement(
        **{
            "object": uri,
            "manifest": build_manifest(STORE, uri),
            "act": "write",
            "signed_ms": 1,
            "producer": Producer(dag_id="churn", task_id="train", run_id="run 1"),
            **more,
        }
    )


def sign(path: Path, key=PIPELINE, **more):
    return sign_artifact(STORE, said_of(path, **more), key)


def beside(path: Path) -> list[str]:
    return sorted(each.name.split(".", 1)[1] for each in Path(f"{path}.sig").iterdir())


def manifest_file(path: Path) -> Path:
    (found,) = Path(f"{path}.sig").glob("*.manifest")
    return found


def signed_at(path: Path):
    names = find_statements(STORE, uri_of(path))
    (held,) = read_statements(STORE, names, [PIPELINE]).held
    return held


@pytest.fixture
def reads(monkeypatch):
    """Addresses of the manifests that were read."""
    seen = []

    def read(store, folder, signed):
        seen.append(signed.digest)
        return read_manifest(store, folder, signed)

    monkeypatch.setattr(statement_files, "read_manifest", read)
    return seen


def test_a_long_manifest_lies_beside_its_statement(folder):
    signed = sign(folder)

    held = signed_at(folder)

    assert beside(folder) == ["manifest", "pipeline.3"]
    assert manifest_file(folder).read_bytes() == build_manifest(STORE, uri_of(folder)).canonical
    assert isinstance(held.statement.manifest, Commitment)
    assert held.manifest is None
    assert held.digest == signed.digest
    assert signed_manifest(STORE, held) == build_manifest(STORE, uri_of(folder))


def test_a_short_manifest_stands_in_its_statement_as_ever(tmp_path):
    fill(tmp_path / "few", files=3)

    sign(tmp_path / "few")

    assert beside(tmp_path / "few") == ["pipeline.3"]
    assert signed_at(tmp_path / "few").statement == said_of(tmp_path / "few")


def test_an_old_statement_with_a_long_manifest_in_it_is_still_read(folder):
    said = said_of(folder)
    stem = said.manifest.digest.replace(":", "-")
    Path(f"{folder}.sig").mkdir()
    envelope = dsse.sign(said.encode(), [PIPELINE]).encode()
    Path(f"{folder}.sig", f"{stem}.pipeline.3").write_bytes(envelope)

    verified = verify_artifact(STORE, uri_of(folder), TRUSTED)

    assert verified.statement == said
    assert statements_for(STORE, uri_of(folder), TRUSTED).manifest == said.manifest


@pytest.mark.parametrize("files", [1, 12, 20, 25, 34, 35, 36, 1_000])
@pytest.mark.parametrize("name", ["a", "very long name " * 15], ids=["short", "long"])
def test_what_is_signed_is_below_what_kms_signs(files, name):
    entries = [
        Entry(path=f"{name}{number}", size_bytes=2**42, digest=ZERO, core_id="c" * 64)
        for number in range(files)
    ]
    said = Statement(
        object="s3://a-bucket/a/prefix/of/some/length/table.parquet",
        manifest=Manifest.of(entries),
        act="write",
        signed_ms=1795316400061,
        producer=Producer(dag_id="d" * 250, task_id="t" * 250, run_id="r" * 250),
        context={"object": "s3://a-bucket/a/prefix/of/some/length/table.parquet"},
    )

    payload = said.shortened().encode()

    assert len(dsse.pre_authentication(dsse.PAYLOAD_TYPE, payload)) <= 4096


def test_all_statements_about_the_same_bytes_share_a_manifest(folder):
    sign(folder)
    inode = manifest_file(folder).stat().st_ino

    sign(folder, signed_ms=2)

    assert beside(folder) == ["manifest", "pipeline.3", "pipeline.3.2"]
    assert manifest_file(folder).stat().st_ino == inode


def test_the_manifest_is_there_before_the_statement(folder, monkeypatch):
    there = []

    class Watching(LocalObjects):
        def create(self, uri):
            there.append((uri.rpartition(".")[2], beside(folder) if there else []))
            return super().create(uri)

    sign_artifact(Watching(), said_of(folder), PIPELINE)

    assert there == [("manifest", []), ("3", ["manifest"])]


def test_a_gate_that_digested_all_itself_reads_no_manifest(folder, reads):
    sign(folder)
    manifest_file(folder).unlink()
    manifest = build_manifest(STORE, uri_of(folder))

    verified = signing.verify_manifest(STORE, uri_of(folder), manifest, TRUSTED)

    assert verified.manifest == manifest
    assert reads == []


def test_a_sensor_reads_no_manifest_of_something_else(folder, reads):
    sign(folder)
    digest = manifest_file(folder).name.replace("sha256-", "sha256:").removesuffix(".manifest")
    (folder / "part-9999.csv").write_text("still being written")
    with pytest.raises(ManifestMismatchError):
        statements_for(STORE, uri_of(folder), TRUSTED)
    seen_by_refusal = len(reads)
    (folder / "part-9999.csv").unlink()

    statements_for(STORE, uri_of(folder), TRUSTED)

    # Once to name what differs, once to compare headers.
    assert (seen_by_refusal, reads) == (1, [digest, digest])


def test_many_statements_about_the_same_bytes_cost_one_reading(folder, reads):
    for signed_ms in range(5):
        sign(folder, signed_ms=signed_ms)

    found = statements_for(STORE, uri_of(folder), TRUSTED)

    assert len(found.statements) == 5
    assert len(reads) == 1


@pytest.mark.parametrize("change", ["altered", "added", "removed"])
def test_another_set_of_files_is_refused_and_named(folder, change):
    sign(folder)
    if change == "altered":
        (folder / "part-0007.csv").write_text("row 9999")
    elif change == "added":
        (folder / "part-0007.csv.2").write_text("x")
    else:
        (folder / "part-0007.csv").unlink()

    with pytest.raises(ManifestMismatchError) as refused:
        verify_artifact(STORE, uri_of(folder), TRUSTED)

    named = [*refused.value.added, *refused.value.missing, *refused.value.changed]
    assert [name[:13] for name in named] == ["part-0007.csv"]


def other_manifest(path: Path) -> bytes:
    fill(path.with_name("other"), text="col")
    return build_manifest(STORE, uri_of(path.with_name("other"))).canonical


LIES = {
    "missing": None,
    "empty": lambda path: b"",
    "another of the same length": other_manifest,
    "other digest algorithm": lambda path: (
        build_manifest(STORE, uri_of(path), algorithm="blake3").canonical
    ),
    "an entry renamed": lambda path: build_manifest(STORE, uri_of(path)).canonical.replace(
        b"part-0007", b"part-0x07"
    ),
    "other spelling": lambda path: b" " + build_manifest(STORE, uri_of(path)).canonical,
    "cut": lambda path: build_manifest(STORE, uri_of(path)).canonical[:-1],
    "no JSON": lambda path: b"\xff" * len(build_manifest(STORE, uri_of(path)).canonical),
}


def lie(path: Path, name: str) -> None:
    file, make = manifest_file(path), LIES[name]
    file.unlink()
    if make is not None:
        file.write_bytes(make(path))


@pytest.mark.parametrize("name", LIES)
def test_a_manifest_that_was_not_signed_does_not_count(folder, name):
    sign(folder)
    lie(folder, name)

    with pytest.raises(SignatureError, match=r"missing|not the manifest|expected the signed"):
        signed_manifest(STORE, signed_at(folder))


@pytest.mark.parametrize("name", LIES)
def test_altered_files_do_not_pass_with_a_manifest_that_fits_them(folder, name):
    sign(folder)
    lie(folder, name)
    (folder / "part-0007.csv").write_text("row 9999")
    file = Path(f"{folder}.sig") / f"{signed_at(folder).digest.replace(':', '-')}.manifest"
    if name == "an entry renamed":
        file.write_bytes(build_manifest(STORE, uri_of(folder)).canonical)

    with pytest.raises(ManifestMismatchError, match="which files differ is not known"):
        statements_for(STORE, uri_of(folder), TRUSTED)
    with pytest.raises(ManifestMismatchError):
        verify_artifact(STORE, uri_of(folder), TRUSTED)


@pytest.mark.parametrize("name", LIES)
def test_good_files_are_verified_by_digesting_them_where_the_manifest_is_not_to_be_had(
    folder, name
):
    signed = sign(folder)
    lie(folder, name)

    found = statements_for(STORE, uri_of(folder), TRUSTED)

    assert found.manifest == build_manifest(STORE, uri_of(folder))
    assert found.statements[0].digest == signed.digest


@pytest.mark.parametrize("name", LIES)
def test_signing_again_puts_the_manifest_right(folder, name):
    sign(folder)
    lie(folder, name)

    sign(folder, signed_ms=2)

    assert manifest_file(folder).read_bytes() == build_manifest(STORE, uri_of(folder)).canonical


def test_a_huge_manifest_is_refused_unread(folder):
    sign(folder)
    with manifest_file(folder).open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(SignatureError, match="found 1099511627776"):
        signed_manifest(STORE, signed_at(folder))


def test_a_manifest_replaced_after_the_statement_was_read_does_not_count(folder):
    sign(folder)
    held = signed_at(folder)
    manifest_file(folder).write_bytes(other_manifest(folder))

    with pytest.raises(SignatureError, match="not the manifest that was signed"):
        signed_manifest(STORE, held)


def test_a_manifest_replaced_while_it_is_read_does_not_count(folder):
    sign(folder)
    held, data = signed_at(folder), other_manifest(folder)

    class Moving(LocalObjects):
        def open(self, uri):
            pinned = super().open(uri)
            if uri.endswith(".manifest"):
                # In place: the descriptor sees it.
                manifest_file(folder).write_bytes(data)
            return pinned

    with pytest.raises(IntegrityError):
        signed_manifest(Moving(), held)


@pytest.mark.parametrize("kind", ["folder", "link out"])
def test_no_file_in_a_manifests_place_is_read(folder, tmp_path, kind):
    sign(folder)
    held, file = signed_at(folder), manifest_file(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(other_manifest(folder))
    file.unlink()
    file.mkdir() if kind == "folder" else file.symlink_to(elsewhere)

    with pytest.raises(SignatureError):
        signed_manifest(STORE, held)


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": 49},
        {"size_bytes": 401},
        {"algorithm": "blake3"},
        {"is_sealed": True},
        {"length_bytes": 6_000},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_counts_that_contradict_the_manifest_are_refused(folder, wrong):
    said = said_of(folder)
    keep_manifest(STORE, f"{uri_of(folder)}.sig", said.manifest)
    lying = replace(said, manifest=replace(said.manifest.commitment, **wrong))
    sign_artifact(STORE, lying, PIPELINE)

    with pytest.raises(SignatureError):
        signed_manifest(STORE, signed_at(folder))
    with pytest.raises(SignatureError, match=r"other counts|expected the signed manifest"):
        verify_artifact(STORE, uri_of(folder), TRUSTED)
    with pytest.raises(SignatureError, match=r"other counts|expected the signed manifest"):
        statements_for(STORE, uri_of(folder), TRUSTED)


def test_a_statement_that_a_stranger_signed_over_a_good_manifest_is_refused(folder):
    sign(folder, MALLORY)

    with pytest.raises((SignatureError, PolicyError)):
        verify_artifact(STORE, uri_of(folder), TRUSTED)


def test_a_manifest_is_no_statement(folder):
    sign(folder)

    names = find_statements(STORE, uri_of(folder))

    assert [name.rpartition("/")[2].split(".", 1)[1] for name in names] == ["pipeline.3"]


def test_a_key_may_be_called_manifest(folder):
    key = type(PIPELINE)("x", "manifest", 1)
    sign(folder, key)

    verified = verify_artifact(STORE, uri_of(folder), Demand(verifiers=[key]))

    assert verified.signers == (key.ref,)


def test_somebody_faster_with_the_same_manifest_is_no_trouble(folder, monkeypatch):
    manifest = build_manifest(STORE, uri_of(folder))
    where = f"{uri_of(folder)}.sig"

    class Late(LocalObjects):
        def info(self, uri):
            found = super().info(uri)
            keep_manifest(STORE, where, manifest)
            return found

    keep_manifest(Late(), where, manifest)

    assert read_manifest(STORE, where, manifest.commitment) == manifest


def test_a_statement_of_one_version_does_not_pass_with_the_others_manifest(folder):
    said = said_of(folder)
    inline = json.loads(said.encode())
    short = json.loads(said.shortened().encode())
    inline["predicateType"], short["predicateType"] = (
        short["predicateType"],
        inline["predicateType"],
    )
    for record in (inline, short):
        payload = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        stem = said.manifest.digest.replace(":", "-")
        Path(f"{folder}.sig").mkdir(exist_ok=True)
        envelope = dsse.sign(payload, [PIPELINE]).encode()
        Path(f"{folder}.sig", f"{stem}.pipeline.3").write_bytes(envelope)

        with pytest.raises(SignatureError, match="contradict each other"):
            verify_artifact(STORE, uri_of(folder), TRUSTED)


def test_the_names_in_use_are_these():
    assert manifest_files.is_manifest(f"sha256-{'0' * 64}.manifest")
    assert statement.PREDICATE_TYPE_2 == "urn:airflow-secure-ml:artifact:v2"

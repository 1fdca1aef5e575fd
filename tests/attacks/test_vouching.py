"""Attacks on who signs what: a keyless attacker who wants a signature, an author who blocks one."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.statement import Suite
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.run_plan import Input, Output
from airflow_secure_ml.services.statement_files import (
    find_statements,
    read_statements,
    sign_artifact,
)
from airflow_secure_ml.services.vouching import manifest_to_vouch


def work_for(bench, item, plan):
    return bench.work(
        plan(inputs=[item]),
        sink=bench.sink(),
        run=None,
        still_ours=lambda: None,
        tell=lambda line: None,
    )


def make_set(bound):
    bound["out"].mkdir()
    for name in ("a", "b"):
        (bound["out"] / name).write_text(name)


def test_one_plain_file_gets_no_signature_for_sealed_ones_beside_it(bench, plan):
    bench.run(plan(outputs=[Output(name="out", uri=bench.uri("set"))]), make_set)
    (bench.path("set") / "c").write_text("mine")
    shutil.rmtree(bench.path("set.sig"))
    item = Input(name="artifact", uri=bench.uri("set"))

    with pytest.raises(SecureMLError) as caught:
        manifest_to_vouch(work_for(bench, item, plan), item)

    assert caught.value.why == "not_signed"


@pytest.mark.parametrize("name", ["model.sig", "model.sig/sha256-x", "set/_asml/x.asmk", "_asml"])
def test_no_output_takes_a_name_that_statements_or_keys_have(bench, plan, name):
    output = Output(name="out", uri=bench.uri(name), sealed=False)
    ran = []

    with pytest.raises(SecureMLError):
        bench.run(plan(outputs=[output]), ran.append)

    assert ran == []


@pytest.mark.parametrize("folder", [False, True])
def test_what_another_user_left_does_not_open_what_replaces_it(bench, folder):
    """An output takes the mode of what it replaces; a stranger's mode is not its task's."""
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's file")
    path = bench.path("out")
    store = bench.local_objects
    if folder:
        path.mkdir()
    else:
        path.write_text("x")
    path.chmod(0o777)
    os.chown(path, 12345, 12345)

    make = store.create_directory if folder else store.create
    with make(bench.uri("out")) as writer:
        writer.commit(replace=True)

    assert path.stat().st_mode & 0o077 == 0


def test_verdicts_that_others_add_do_not_stop_the_readers(bench, plan):
    """Whoever may validate an artifact adds a name to it each time; an event holds so many."""
    digest = bench.put("table.csv")["digest"]
    (first,) = read_statements(
        bench.local_objects,
        find_statements(bench.local_objects, bench.uri("table.csv"), digest),
        bench.keys.verifiers(["pipeline"]),
    ).held
    for number in range(140):
        suite = Suite(name=f"{number:0250}", digest=Digest(algorithm="sha256", hex=f"{number:064}"))
        said = replace(first.statement, act="sign", suites=(suite,))
        sign_artifact(bench.local_objects, said, bench.keys.signer("pipeline"))

    assert bench.read("table.csv").startswith("age")

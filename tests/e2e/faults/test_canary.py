"""Values in data and keys show up nowhere, whatever became of the task that had them.

The search is proven first: it finds what a task of the same Airflow left on purpose, at each place.
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.parse
import urllib.request

import pytest

pytestmark = pytest.mark.airflow

RUN = "canary-1"
PLANTED = "planted-7d1fbe5f0c55"
# What became of each task, and why by the trail; None: it could not say.
ENDS = {
    "ingest": ("success", None),
    "use": ("success", None),
    "in_bash": ("success", None),
    "mix": ("success", None),
    "validated": ("success", None),
    "to_flip": ("success", None),
    "raises": ("failed", "task_raised"),
    "refused": ("failed", "expectation_failed"),
    "failing": ("failed", "expectation_failed"),
    "no_numbers": ("failed", "not_checkable"),
    "ragged": ("failed", "not_checkable"),
    "unclosed": ("failed", "not_checkable"),
    "header": ("failed", "not_checkable"),
    "extra": ("failed", "output_unexpected"),
    "tampered": ("failed", "digest_differs"),
    "late": ("failed", "timed_out"),
    "dies": ("failed", None),
    "exits": ("failed", None),
}
MADE_BY = ("ingest", "mix", "raises", "failing", "no_numbers", "ragged", "unclosed", "header")
CANARIES = (*MADE_BY, "extra", "to_flip", "dies", "exits", "late")


def canary(name):
    drawn = hashlib.sha256(f"{RUN}/{name}".encode()).hexdigest()
    return f"Cnry{drawn[:24]}", str(10**15 + int(drawn[24:], 16) % 10**15)


def forms(value):
    """A value as it may be written: itself, in hex, in base64 wherever it begins, quoted."""
    found = {value, value.hex().encode(), value.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + value)
        # What the bytes before and after take part in is left out.
        inner = text[(0, 2, 3)[shift] : len(text) - 4]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    found |= {urllib.parse.quote_from_bytes(value).encode(), repr(value)[2:-1].encode()}
    return {form for form in found if len(form) >= 8}


def files(folder, but=()):
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in but
    }


def page(faults, path):
    request = urllib.request.Request(
        f"{faults.url}/secure-ml/{path}", headers={"Cookie": f"_token={faults.token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def places(faults, dag, run):
    """Everything that a run can have left, by place."""
    instances = faults.instances(dag, run)
    base = f"/dags/{dag}/dagRuns/{run}/taskInstances"
    logs = [path for path in (faults.home / "logs").rglob("*") if path.is_file()]
    of_tasks = [path for path in logs if f"dag_id={dag}" in str(path)]
    keyring = faults.home / "secure_ml" / "keyring.json"

    def xcoms():
        for one in instances:
            entries = faults.api("GET", f"{base}/{one['task_id']}/xcomEntries?map_index=-1")
            for entry in entries["xcom_entries"]:
                yield faults.xcom(dag, run, one["task_id"], entry["key"])

    def pages():
        yield page(faults, f"run?dag_id={dag}&run_id={run}")
        yield page(faults, f"dag?dag_id={dag}")
        yield page(faults, "integrity")
        for event in faults.events(dag=dag, run=run):
            yield page(faults, f"event?name={event['emitter']}:{event['seq']}")

    spooled = files(faults.audit_dir)
    return {
        "xcom": json.dumps(list(xcoms())).encode(),
        "rendered fields": json.dumps([one["rendered_fields"] for one in instances]).encode(),
        "task logs": b"".join(path.read_bytes() for path in of_tasks),
        "component logs": faults.logs().encode()
        + b"".join(path.read_bytes() for path in logs if path not in of_tasks),
        "trail": b"".join(spooled.values()),
        "pages": b"".join(pages()),
        "children": b"".join(files(faults.data / "probes").values()),
        "home": b"".join(files(faults.home, but=(keyring,)).values()),
        "data": b"".join(
            name.encode() + data
            for name, data in files(faults.data).items()
            if "probes" not in name
        ),
        "temporary": b"".join(files(faults.folder / "temporary").values()),
        "scratch": b"".join(files(faults.scratch).values()),
    }


def found_in(everything, value):
    return {place for place, data in everything.items() if any(f in data for f in forms(value))}


@pytest.fixture(scope="module")
def states(faults):
    faults.start("planted", PLANTED)
    faults.start("canary", RUN)
    faults.wait("planted", PLANTED)
    states = faults.wait("canary", RUN)

    def sequenced():
        seen = {e["run"].get("task") for e in faults.events(dag="canary", run=RUN)}
        return seen >= set(ENDS)

    faults.until(sequenced, 90, lambda: faults.states("canary", RUN))
    return {task: state for (task, _), state in states.items()}


@pytest.fixture(scope="module")
def everything(faults, states):
    return places(faults, "canary", RUN)


def test_the_search_finds_what_was_planted_at_each_place(faults, states):
    planted = places(faults, "planted", PLANTED)
    left = faults.scratch / "asml-planted"
    left.mkdir()
    try:
        (left / "data").write_bytes(b"x" + base64.b64encode(f"ab{PLANTED}cd".encode()))
        planted["scratch"] = places(faults, "planted", PLANTED)["scratch"]
    finally:
        (left / "data").unlink()
        left.rmdir()

    assert found_in(planted, PLANTED.encode()) == set(planted)


@pytest.mark.parametrize("shape", ["itself", "hex", "HEX", "base64", "url-safe", "quoted"])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_the_search_knows_each_form(shape, shift):
    value = bytes(range(224, 256))
    around = b"\x17" * shift + value + b"\x17" * shift
    written = {
        "itself": around,
        "hex": around.hex().encode(),
        "HEX": around.hex().upper().encode(),
        "base64": base64.b64encode(around),
        "url-safe": base64.urlsafe_b64encode(around),
        "quoted": urllib.parse.quote_from_bytes(around).encode(),
    }[shape]

    assert found_in({"there": b"..." + written + b"..."}, value) == {"there"}


def test_each_task_ended_as_it_should(faults, states):
    assert {task: state for task, state in states.items() if task != "flip"} == {
        task: state for task, (state, _) in ENDS.items()
    }


@pytest.mark.parametrize("task", [task for task, (_, why) in ENDS.items() if why])
def test_each_failure_is_in_the_trail_with_its_reason(faults, states, task):
    found = faults.events(dag="canary", run=RUN, task=task, acts=("task.secure",))

    assert [e["why"] for e in found if e["phase"] == "outcome"] == [ENDS[task][1]]


@pytest.mark.parametrize("name", CANARIES)
def test_a_value_of_the_data_shows_up_nowhere(everything, name):
    for value in canary(name):
        assert found_in(everything, value.encode()) == set()


def test_no_key_shows_up_anywhere(faults, everything):
    ring = json.loads((faults.home / "secure_ml" / "keyring.json").read_text())
    secrets = [
        base64.b64decode(
            version["secret"] + "==", altchars=b"-_" if "-" in version["secret"] else None
        )
        for key in ring["keys"].values()
        for version in key["versions"]
    ]

    assert len(secrets) == 2
    assert all(len(secret) >= 32 for secret in secrets)
    for secret in secrets:
        assert found_in(everything, secret) == set()


def test_children_get_no_scratch_path_of_the_task_but_the_guardian_is_seen(faults, everything):
    assert b"guardian.py" in everything["children"]
    assert f"{faults.scratch}/".encode() not in everything["children"]


def test_the_data_that_was_published_is_sealed(faults, states):
    sealed = (faults.data / RUN / "table.csv").read_bytes()

    assert sealed[1:5] == b"ASML"

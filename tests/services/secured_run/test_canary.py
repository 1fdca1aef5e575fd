"""Values of data and keys are in nothing that a run says: errors, events, lines, children."""

from __future__ import annotations

import base64
import json
import os
import traceback
from pathlib import Path

import pytest

from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.services.run_plan import Input, Output

WORD, NUMBER = "Cnry-5f0d6a1b2c", "7391820465518273"
SECRETS = (WORD, NUMBER)


def forms(value):
    data = value if isinstance(value, bytes) else value.encode()
    text = base64.b64encode(data)
    return {data, data.hex().encode(), text.rstrip(b"="), repr(data)[2:-1].encode()}


def said(bench, error):
    """Everything that left the run: the error as a log prints it and as it is, lines, files."""
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    lines = "\n".join(bench.told)
    files = [path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()]
    keyring = bench.keyring.path.read_bytes()
    return [text.encode(), lines.encode(), *(data for data in files if data != keyring)]


def leaks(parts, values):
    return [value for value in values for form in forms(value) if any(form in p for p in parts)]


def keys_of(bench):
    ring = json.loads(bench.keyring.path.read_text())
    texts = [v["secret"] for key in ring["keys"].values() for v in key["versions"]]
    return [*texts, *(base64.urlsafe_b64decode(text + "==") for text in texts)]


def a_row(age=41):
    return f"age,name,number\n{age},{WORD},{NUMBER}\n"


def failing(bound):
    bound["out"].write_text(a_row(f"-{NUMBER}"))


def no_number(bound):
    bound["out"].write_text(a_row(WORD))


def ragged(bound):
    bound["out"].write_text(a_row() + f"1,2,3,4,{WORD}\n")


def unclosed(bound):
    bound["out"].write_text(a_row() + f'"{WORD}')


def header(bound):
    bound["out"].write_text(f"{WORD},{NUMBER}\n1,2\n")


def not_text(bound):
    bound["out"].write_bytes(a_row().encode() + b"\xff\xfe" + WORD.encode() + b"\n")


def cut_parquet(bound):
    bound["out"].write_bytes(b"PAR1" + WORD.encode() + b"PAR1")


def beside(bound):
    bound["out"].write_text(a_row())
    bound["out"].with_name(WORD).write_text(NUMBER)


def a_link(bound):
    bound["out"].symlink_to(f"/{WORD}")


def a_name_in_a_directory(bound):
    bound["out"].mkdir()
    (bound["out"] / WORD).symlink_to(f"/{NUMBER}")


def test_the_search_finds_what_is_planted(bench):
    error = ValueError("said")
    error.__cause__ = ValueError(base64.b64encode(WORD.encode()).decode())

    assert leaks(said(bench, error), SECRETS) == [WORD]
    (bench.data / "plain").write_text(NUMBER)
    bench.told.append(keys_of(bench)[0])
    parts = said(bench, ValueError("nothing"))
    assert NUMBER in leaks(parts, SECRETS)
    assert leaks(parts, keys_of(bench)) != []


@pytest.mark.parametrize(
    "body",
    [
        failing,
        no_number,
        ragged,
        unclosed,
        header,
        not_text,
        cut_parquet,
        beside,
        a_link,
        a_name_in_a_directory,
    ],
    ids=lambda body: body.__name__,
)
def test_a_refused_output_is_not_quoted(bench, plan, suite, body):
    output = Output(name="out", uri=bench.uri("x"), suite=SuiteSource.from_file(suite()))

    error, _ = bench.refusal(plan(outputs=[output]), body)

    assert leaks(said(bench, error), [*SECRETS, *keys_of(bench)]) == []


@pytest.mark.parametrize("change", ["flipped", "cut", "another key"])
def test_a_refused_input_is_not_quoted(bench, plan, change):
    bench.put("x", a_row())
    path, keys = bench.path("x"), keys_of(bench)
    if change == "another key":
        bench.keyring.destroy("data")
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data if change == "flipped" else data[:-1])

    error, _ = bench.refusal(plan(inputs=[Input(name="table", uri=bench.uri("x"))]))

    assert leaks(said(bench, error), [*SECRETS, *keys]) == []


def test_children_of_a_running_task_know_nothing(bench, plan):
    bench.put("x", a_row())
    found, of_main = [], Path(f"/proc/self/task/{os.getpid()}/children")
    before = set(of_main.read_text().split())

    def body(bound):
        assert WORD in bound["table"].read_text()
        for pid in set(of_main.read_text().split()) - before:
            process = Path("/proc", pid)
            found.append((process / "cmdline").read_bytes() + (process / "environ").read_bytes())

    bench.run(plan(inputs=[Input(name="table", uri=bench.uri("x"))]), body)

    assert len(found) == 1, "the guardian, and nothing else"
    assert b"guardian.py" in found[0]
    assert leaks(found, [*SECRETS, *keys_of(bench)]) == []
    assert str(bench.shm).encode() not in found[0]

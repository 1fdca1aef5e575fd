"""Servers are found where they are, built once where they are not, and missed aloud elsewhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import build

SCRIPT = Path(build.__file__)
VAULT = build.SERVERS["vault"]
# Stands for the compiler: notes that it was called, and makes what it was asked for.
GO = """
if [ "$1" = version ]; then echo "go version go1.26.0 linux/amd64"; exit; fi
echo "$@" >>{folder}/calls
for last; do [ "$before" = -o ] && target=$last; before=$last; done
pwd >{folder}/cwd; echo "$CGO_ENABLED $GOFLAGS $GOTOOLCHAIN" >{folder}/flags
{more}
echo made >"$target"; chmod 755 "$target"
"""


@pytest.fixture
def programs(tmp_path):
    """A folder that stands for the whole PATH; `add(name, text)` puts a program into it."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(name, text):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    for name in ("sleep", "chmod"):
        (folder / name).symlink_to(f"/bin/{name}")
    add.folder = folder
    add.environment = {"PATH": str(folder), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    return add


@pytest.fixture
def go(programs, tmp_path):
    """Puts a compiler on PATH."""
    return lambda more="": programs("go", GO.format(folder=tmp_path, more=more))


def start(programs, *before, server="vault", **more):
    return subprocess.Popen(
        [sys.executable, *(before or (str(SCRIPT),)), server],
        env=programs.environment | more, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(programs, **more):
    process = start(programs, **more)
    said, told = process.communicate(timeout=60)
    return process.returncode, said.strip(), told


def cached(tmp_path):
    return [path.name for path in (tmp_path / ".cache" / "airflow-secure-ml").glob("vault-*_64")]


@pytest.mark.parametrize(
    ("name", "said"),
    [("vault", "Vault v1.21.0, built 2025-10-21"), ("bao", "OpenBao v2.4.4 (bc62ba1)")],
    ids=["vault", "openbao"],
)
def test_a_server_on_path_is_taken(programs, name, said):
    programs(name, f"echo '{said}'")

    status, found, _ = run(programs)

    assert (status, found) == (0, str(programs.folder / name))


@pytest.mark.parametrize(
    "said", ["echo 'Vault v1.14.9 (abc)'", "exit 1", "echo hello"], ids=["old", "broken", "other"]
)
def test_a_server_of_an_unknown_version_is_not(programs, go, tmp_path, said):
    programs("vault", said)
    go()

    status, found, _ = run(programs)

    assert status == 0
    assert [Path(found).name] == cached(tmp_path)


def test_the_pinned_module_is_built_once(programs, go, tmp_path):
    go()

    first, second = run(programs), run(programs)

    assert first[0] == second[0] == 0
    assert first[1] == second[1]
    assert Path(first[1]).read_text() == "made\n"
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.endswith("github.com/hashicorp/vault")
    assert (tmp_path / "flags").read_text() == "0 -trimpath local\n"


def test_the_fsck_of_file_systems_is_not_taken(programs, go):
    programs("fsck", "echo fsck from util-linux 2.40")
    go()

    status, found, _ = run(programs, server="fsck")

    assert status == 0
    assert Path(found).read_text() == "made\n"


def test_a_tool_that_needs_a_newer_go_may_fetch_it(programs, go, tmp_path):
    go()

    run(programs, server="litewitness")

    assert (tmp_path / "flags").read_text() == "0 -trimpath auto\n"


def test_the_build_leaves_the_project_alone(programs, go, tmp_path):
    go()

    run(programs)

    assert str(tmp_path) in (tmp_path / "cwd").read_text()
    left = sorted(p.name for p in (tmp_path / ".cache/airflow-secure-ml").iterdir())
    assert left == [*cached(tmp_path), f"{cached(tmp_path)[0]}.lock"]


def test_two_at_once_build_once(programs, go, tmp_path):
    go("sleep 1")

    both = [start(programs) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_progress_is_told(programs, go):
    go("echo 'go: downloading one v1' >&2; echo a/package >&2; sleep 1")
    often = f"import runpy, sys; m = runpy.run_path({str(SCRIPT)!r}); g = m['main'].__globals__; "
    often += "g['TOLD_EVERY_S'] = 0.3; sys.exit(m['main'](sys.argv[1:]))"

    process = start(programs, "-c", often)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "12 to 18 minutes on two cores, once" in told
    assert re.search(r"building vault: \d s, 1 modules fetched, 1 packages compiled\n", told)


def test_a_build_that_is_stopped_leaves_nothing(programs, go, tmp_path):
    go(f"echo $$ >{tmp_path}/pid; sleep 600")
    process = start(programs)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    process.communicate()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    left = [p.name for p in (tmp_path / ".cache/airflow-secure-ml").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []


def test_what_a_killed_build_left_is_removed(programs, go, tmp_path):
    left = build.cached(VAULT).name + "-build-old"
    (tmp_path / ".cache/airflow-secure-ml" / left).mkdir(parents=True)
    go()

    run(programs)

    assert not (tmp_path / ".cache/airflow-secure-ml" / left).exists()


@pytest.mark.parametrize(("ci", "expected"), [("true", 1), ("", 0)], ids=["in-ci", "elsewhere"])
def test_without_go_one_line_says_what_to_do(programs, ci, expected):
    status, found, told = run(programs, CI=ci)

    assert (status, found) == (expected, "")
    assert told == (
        "MISSING: vault: no vault or bao on PATH, and Go is missing; "
        "install Go 1.26 or newer, then `make servers` builds it\n"
    )


def test_an_old_go_does_not_do(programs):
    programs("go", "echo go version go1.22.3 linux/amd64")

    status, _, told = run(programs, CI="true")

    assert status == 1
    assert "Go 1.22 is there; install Go 1.26 or newer" in told


@pytest.mark.parametrize(("ci", "expected"), [("true", 1), ("", 0)], ids=["in-ci", "elsewhere"])
def test_a_build_that_fails_is_said_with_its_last_words(programs, go, tmp_path, ci, expected):
    go("echo 'dial tcp: no such host' >&2; exit 1")

    status, found, told = run(programs, CI=ci)

    assert (status, found, cached(tmp_path)) == (expected, "", [])
    assert "MISSING: vault: go build failed\ndial tcp: no such host" in told


def test_another_pin_is_another_program(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = tmp_path / "pins"
    other.mkdir()
    (other / "go.mod").write_text("module x\n")
    (other / "go.sum").write_text("")

    one, two = build.cached(VAULT), build.cached(replace(VAULT, folder=other))

    assert one.parent == two.parent == tmp_path / "airflow-secure-ml"
    assert one != two


def until(found, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_cache_is_its_owners_alone(programs, go, tmp_path):
    go()

    run(programs)

    assert os.stat(tmp_path / ".cache/airflow-secure-ml").st_mode & 0o077 == 0

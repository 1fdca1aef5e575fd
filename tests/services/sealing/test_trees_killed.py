"""kill -9 at any moment of work on many files: begun again, the end is the same."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.services.signing import Demand, verify_artifact

ROOT = Path(__file__).parents[3]
# Small ones, an empty one, and one of several segments.
FILES = {f"{n % 4}/{n}.bin": bytes([n]) * (n * 700) for n in range(40)} | {
    "large": b"x" * 3_000_000
}
PROGRAM = """
import sys
from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.services.opening_below import OpeningBelow, OpeningKeys
from airflow_secure_ml.services.sealed_dataset import DataSetRoot
from airflow_secure_ml.services.sealing_below import SealingBelow, SealingKeys
from airflow_secure_ml.services.signing import Demand, statements_for
from airflow_secure_ml.services.tree_work import Tree
from pathlib import Path

verb, ring, source, target = sys.argv[1:]
keys, store = LocalKeyring(Path(ring)), LocalObjects()
source, target = (Tree(store=store, uri=store.canonical(each)) for each in (source, target))

def step(files, size):
    print("step", flush=True)
    sys.stdin.readline()

verifiers = keys.verifiers(["pipeline"])
if verb == "seal":
    signer = keys.signer("pipeline")
    signs = SealingKeys(system=keys, names=("data",), signer=signer, verifiers=verifiers)
    work = SealingBelow(source, target, keys=signs, context={}, threads=2, pace=step)
    tally = work.run()
    work.sign(1)
else:
    said = statements_for(store, source.uri, Demand(verifiers=verifiers)).manifest
    readers = [DataSetRoot(store, source.uri, keys=keys.unwrappers())]
    opens = OpeningKeys(readers=readers, state_of=None, expect={}, original=source)
    tally = OpeningBelow(source, target, keys=opens, said=said, threads=2, pace=step).run()
print("end", tally.done, tally.already, tally.failed, flush=True)
"""


class Worker:
    """A process that waits at each step until it is let go on, or killed."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, steps=None):
        """Let it take so many steps, then kill it; or let it end, and return what it says."""
        with self.process as process:
            for _ in range(10_000 if steps is None else steps):
                said = process.stdout.readline()
                if not said.startswith("step"):
                    return said.split()
                process.stdin.write("\n")
                process.stdin.flush()
            process.stdout.readline()
            process.kill()
        return ["killed"]


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keyring.json"
    LocalKeyring(path).init()
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    root = tmp_path_factory.mktemp("plain")
    for name, data in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return root


def tree(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "_asml" not in path.parts
    }


def work(verb, ring, source, target, seed):
    """Kill it at three moments, then let it end; returns what it said then."""
    moments = random.Random(seed)
    for _ in range(3):
        said = Worker(verb, ring, source, target).run(moments.randrange(30))
        assert said == ["killed"]
    return Worker(verb, ring, source, target).run()


@pytest.mark.parametrize("seed", range(3))
def test_killed_three_times_it_ends_as_if_it_had_never_been(tmp_path, ring, plain, seed):
    sealed, back = tmp_path / "sealed", tmp_path / "back"

    end, done, already, failed = work("seal", ring, plain, sealed, seed)

    assert (end, int(done) + int(already), failed) == ("end", len(FILES), "0")
    store, keys = LocalObjects(), LocalKeyring(ring)
    demand = Demand(verifiers=keys.verifiers(["pipeline"]))
    manifest = verify_artifact(store, store.canonical(str(sealed)), demand).manifest
    assert {entry.path for entry in manifest.entries} == FILES.keys()
    assert len(list(sealed.glob("_asml/*.asmk"))) == 1
    assert not [path for path in sealed.rglob("*") if path.name.endswith(".aside")]

    end, done, already, failed = work("open", ring, sealed, back, seed + 10)

    assert (end, int(done) + int(already), failed) == ("end", len(FILES), "0")
    assert tree(back) == FILES
    assert not (back / "_asml").exists()

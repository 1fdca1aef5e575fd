"""The fuzz targets hold on their corpus and on some thousand changes of it, and can fail at all."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module


@pytest.mark.parametrize("name", ["sealed_file", "spool_frames", "verifier"])
def test_a_target_holds(module, name):
    mutations, target = module("mutations"), module(f"fuzz_{name}")

    assert len(mutations.load(name)) >= 3
    assert mutations.run(name, target.target, seed=7, count=4000, keep=False) == 4000


def test_what_the_verifier_is_fuzzed_with_is_whole(module):
    mutations, fuzzed = module("mutations"), module("fuzz_verifier")

    verdicts = {fuzzed.verdict(data) for data in mutations.load("verifier")}

    assert verdicts == {(0, fuzzed.ROOT)}


def test_one_seed_gives_one_sequence(module):
    mutations = module("mutations")
    corpus = [b"abc", b"defgh"]
    one, two = mutations.inputs(3, corpus), mutations.inputs(3, corpus)

    assert [next(one) for _ in range(200)] == [next(two) for _ in range(200)]


def test_a_finding_is_told(module, monkeypatch, tmp_path):
    mutations = module("mutations")
    monkeypatch.setattr(mutations, "CORPUS", tmp_path)
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "seed.bin").write_bytes(b"abc")

    def target(data):
        if len(data) > 3:
            raise IndexError

    with pytest.raises(mutations.Finding, match="toy: seed 1"):
        mutations.run("toy", target, seed=1, count=1000)
    assert len(list((tmp_path / "toy").glob("finding-*.bin"))) == 1

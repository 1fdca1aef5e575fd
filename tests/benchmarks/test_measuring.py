from __future__ import annotations

import hashlib
import sys

import pytest

from benchmarks.machine import parse_cpu, parse_memory_gib, parse_release
from benchmarks.measuring import NotInstalledError, in_turns, median_ratio, quantile, run, spent


@pytest.mark.parametrize(("share", "found"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_a_measured_value(share, found):
    assert quantile(range(100, 0, -1), share) == found


def test_a_ratio_pairs_what_was_measured_in_one_round():
    assert median_ratio([1.0, 30.0, 4.0], [1.0, 10.0, 2.0]) == 2.0


def test_what_is_compared_runs_in_turns():
    order = []
    works = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}

    found = in_turns(works, 2, "test")

    assert order == ["a", "b", "a", "b"]
    assert found == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


def test_a_program_is_measured_from_outside():
    done = run([sys.executable, "-c", "print(len(b'x' * (64 << 20)))"])

    assert done.output == "67108864\n"
    assert done.peak_bytes > 64 << 20
    assert done.cpu_s > 0


def test_cpu_is_that_of_the_process_and_of_the_children_it_waited_for():
    hashing = "import hashlib; hashlib.sha256(bytes(64 << 20))"

    own = spent(lambda: hashlib.sha256(bytes(64 << 20)))
    childs = spent(lambda: run([sys.executable, "-c", hashing]))
    idle = spent(lambda: None)

    assert own["cpu_s"] > idle["cpu_s"]
    assert childs["cpu_s"] > idle["cpu_s"]
    assert childs["wall_s"] > 0


def test_a_missing_program_is_not_a_failure():
    with pytest.raises(NotInstalledError, match="no-such-program"):
        run(["no-such-program"])


def test_a_missing_module_is_not_a_failure():
    with pytest.raises(NotInstalledError, match="no_such_module"):
        run([sys.executable, "-c", "import no_such_module"])


def test_a_failure_is_not_a_figure():
    with pytest.raises(RuntimeError, match="ended with 3"):
        run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_processor_is_described_by_its_model_and_what_matters_here():
    text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 aes sha_ni vaes\n"

    assert parse_cpu(text) == {"cpu": "AMD EPYC", "flags": ["SHA-NI", "VAES", "AES-NI"]}


def test_memory_is_whole_gibibytes():
    assert parse_memory_gib("MemTotal:       24689112 kB\nMemFree: 1 kB\n") == 24


def test_a_kernel_is_its_version_alone():
    assert parse_release("6.18.44-somebody-s-host") == "6.18.44"

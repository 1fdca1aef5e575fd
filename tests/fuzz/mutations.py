"""A small deterministic fuzzer: one seed gives one sequence of inputs.

A target takes bytes and raises Finding (or anything it did not expect) when a parser misbehaves;
the input is then kept in the corpus, where it is tried first from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
NUMBERS = (0, 1, 2, 31, 32, 40, 44, 45, 46, 64, 65, 256, 511, 512, 513, 1024, 4096, 8192, 8193)
LARGE = (16384, 16385, 32767, 32768, 65535, 1048576, 1049088, 2**31, 2**32 - 512, 2**32 - 1)
MAX_INPUT_BYTES = 1 << 16


class Finding(AssertionError):
    """A parser took what it must refuse."""


def load(name: str) -> list[bytes]:
    """The corpus of one target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))]


def mutate(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    """Change `data` in one way."""
    at = rng.randrange(len(data) + 1)
    length = rng.choice((1, 2, 4, 8, rng.randrange(1, 64)))
    match rng.randrange(8):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + length] = rng.randbytes(length)
        case 2:
            width = rng.choice((1, 2, 3, 4))
            number = rng.choice(NUMBERS + LARGE) % (1 << 8 * width)
            data[at : at + width] = number.to_bytes(width, "big")
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = rng.randbytes(length)
        case 5:
            data[at:at] = data[at : at + length]
        case 6:
            del data[at:]
        case _:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            data[at : at + length] = other[start : start + length]
    del data[MAX_INPUT_BYTES:]


def inputs(seed: int, corpus: list[bytes]) -> Iterator[bytes]:
    """The corpus itself, then changes of it without end."""
    yield from corpus
    rng = random.Random(seed)
    while True:
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            mutate(rng, data, corpus)
        yield bytes(data)


def run(
    name: str,
    target: Callable[[bytes], None],
    *,
    seed: int,
    seconds: float | None = None,
    count: int | None = None,
    keep: bool = True,
) -> int:
    """Try inputs until the time or the count is up; returns how many were tried.

    Raises:
        Finding: One misbehaved; it lies in the corpus now.
    """
    end = None if seconds is None else time.monotonic() + seconds
    tried = 0
    for data in inputs(seed, load(name)):
        if tried == count or (end is not None and time.monotonic() > end):
            break
        try:
            target(data)
        except Exception as error:
            kept = CORPUS / name / f"finding-{hashlib.sha256(data).hexdigest()[:16]}.bin"
            if keep:
                kept.write_bytes(data)
            raise Finding(f"{name}: seed {seed}, input {tried}, kept as {kept.name}") from error
        tried += 1
    return tried


def main(name: str, target: Callable[[bytes], None]) -> None:
    """Run one target from the command line."""
    parser = argparse.ArgumentParser(description=f"fuzz {name}")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        tried = run(name, target, seed=options.seed, seconds=options.seconds)
    except Finding:
        traceback.print_exc()
        sys.exit(1)
    print(f"{name}: {tried} inputs, seed {options.seed}, no finding")

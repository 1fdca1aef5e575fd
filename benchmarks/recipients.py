"""How many file keys are wrapped, unwrapped and statements signed a second, by kind of key.

Keys that a service or a device holds are not here: their figure is that of the way to them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders import kek
from benchmarks.measuring import column, in_turns, quantile, spent

WRAPS = {
    "local": "a key of the local keyring",
    "x25519": "a recipient, X25519",
    "mlkem768-x25519": "a recipient, ML-KEM-768 and X25519",
}
SIGNS = {"ed25519": "Ed25519", "both": "Ed25519 and ML-DSA-65"}


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Seconds for so many of each, round by round."""
    count = 20 if quick else 1_000
    works: dict[str, Callable[[], object]] = {}
    for name, (there, back) in {**_wraps(), **_signs()}.items():
        works[f"{name}, there"] = _times(there, count)
        works[f"{name}, back"] = _times(back, count)
    timed = {name: lambda work=work: spent(work) for name, work in works.items()}
    return {"count": count, "rounds": in_turns(timed, 3, "recipients")}


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for name, label in WRAPS.items():
        there, back = _per_s(found, name)
        lines.append((f"file keys to {label}", f"{there} wrapped", f"{back} unwrapped", "reported"))
    for name, label in SIGNS.items():
        there, back = _per_s(found, name)
        lines.append(
            (f"statements under {label}", f"{there} signed", f"{back} verified", "reported")
        )
    return lines


def _per_s(found: Mapping[str, Any], name: str) -> tuple[str, str]:
    taken = (column(found["rounds"][f"{name}, {way}"], "wall_s") for way in ("there", "back"))
    there, back = (f"{found['count'] / quantile(each, 0.5):,.0f}/s" for each in taken)
    return there, back


def _times(act: Callable[[], object], count: int) -> Callable[[], object]:
    def work() -> None:
        for _ in range(count):
            act()

    return work


_Ways = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def _wraps() -> _Ways:
    from airflow_secure_ml.core.ports import KeyRef
    from airflow_secure_ml.core.sealed_file import hpke

    file_key, core_id, seed = os.urandom(32), os.urandom(32), os.urandom(32)
    ref = KeyRef(system="local", name="partner", version="1")
    made: dict[str, tuple[Any, Any]] = {"local": (kek(), kek())}
    for algorithm in hpke.ALGORITHMS:
        recipient = hpke.recipient_of(algorithm, seed)
        made[algorithm] = (
            hpke.HpkeWrapper(recipient, ref),
            hpke.HpkeOpener(algorithm, seed, ref),
        )

    def ways(wrapper: Any, opener: Any) -> tuple[Callable[[], object], Callable[[], object]]:
        body = wrapper.wrap(file_key, core_id)
        return lambda: wrapper.wrap(file_key, core_id), lambda: opener.unwrap(body, core_id)

    return {name: ways(*pair) for name, pair in made.items()}


def _signs() -> _Ways:
    from airflow_secure_ml.core import dsse, ml_dsa
    from airflow_secure_ml.core.ed25519 import Ed25519Signer, Ed25519Verifier, public_of
    from airflow_secure_ml.core.ports import KeyRef

    seed, said = os.urandom(32), os.urandom(2_000)
    ref = KeyRef(system="local", name="pipeline", version="1")
    public, second = public_of(seed), ml_dsa.public_of(seed)
    pairs = {
        "ed25519": (Ed25519Signer(seed, ref), Ed25519Verifier(public, ref)),
        "both": (
            Ed25519Signer(seed, ref, ml_dsa.MlDsaSigner(seed, ref)),
            Ed25519Verifier(public, ref, second=second),
        ),
    }

    def ways(signer: Any, verifier: Any) -> tuple[Callable[[], object], Callable[[], object]]:
        made = dsse.sign(said, [signer])
        return lambda: dsse.sign(said, [signer]), lambda: dsse.verify(made, [verifier])

    return {name: ways(*pair) for name, pair in pairs.items()}

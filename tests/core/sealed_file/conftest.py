"""The reference implementation and a header to attack."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE_KEY = bytes(range(0x20, 0x40))
KEK = bytes(range(32))


@pytest.fixture(scope="session")
def reference():
    spec = importlib.util.spec_from_file_location(
        "sealed_file_reference", Path(__file__).with_name("reference.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build(reference):
    """Make a header by the reference: `build(context=…, slots=…, suite=…)`."""

    def build(*, context=None, slots=None, suite=1, unit=512):
        core = reference.core(FILE_KEY, {"dataset": "d1"} if context is None else context, suite)
        if slots is None:
            slots = [(1, "team/3", reference.kek_body(KEK, FILE_KEY, core))]
        return reference.header(FILE_KEY, core, slots, unit)

    return build

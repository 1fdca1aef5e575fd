"""An attacker who overwrites a sealed object in place, between two looks of its reader."""

from __future__ import annotations

import pytest

from airflow_secure_ml.errors import IntegrityError
from airflow_secure_ml.services.run_plan import Input, Pin


class Treacherous:
    """A pinned object whose bytes change once its digest was taken."""

    def __init__(self, pinned, act):
        self._pinned, self._act = pinned, act

    def __getattr__(self, name):
        return getattr(self._pinned, name)

    def check_unchanged(self):
        self._pinned.check_unchanged()
        act, self._act = self._act, lambda: None
        act()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return self._pinned.__exit__(*exception)


def test_an_older_object_does_not_slip_in_behind_the_digest(bench, plan, with_parts):
    bench.put("table.csv", "older")
    older = bench.path("table.csv").read_bytes()
    pin = Pin(digest=bench.put("table.csv", "newer")["digest"], by="author")
    uri = bench.uri("table.csv")

    class Store:
        def __getattr__(self, name):
            return getattr(bench.local_objects, name)

        def open(self, where):
            opened = bench.local_objects.open(where)
            return Treacherous(opened, lambda: bench.path("table.csv").write_bytes(older))

    read = []

    def body(bound):
        read.append(bound["table"].read())

    bench.change = lambda desk: with_parts(desk, store=lambda _: Store())
    item = Input(name="table", uri=uri, stream=True, pin=pin)

    with pytest.raises(IntegrityError):
        bench.run(plan(inputs=[item]), body)

    assert read == []

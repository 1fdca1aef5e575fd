"""The end point's word is kept: what it took is there after the machine stopped."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.ingest.receiver import Receiver
from airflow_secure_ml.adapters.spool.parts import Parts
from airflow_secure_ml.core.audit.frame import EVENT, encode_frame
from tests.adapters.spool.conftest import read_spools
from tests.adapters.spool.test_crashes import REST, Disk
from tests.services.audit.conftest import ALICE, BOB, chain


@pytest.mark.parametrize("rest", REST)
def test_what_was_taken_survives_a_power_loss(tmp_path, rest):
    disk, folder = Disk(stop_at=0), tmp_path / "audit" / "ingested"
    receiver = Receiver(
        folder,
        lambda emitter, stamp: Parts(disk, (str(folder),), emitter, 1 << 20, preamble=stamp),
    )
    told = {name: chain(name, 6, is_closed=False) for name in (ALICE, BOB)}
    taken = set()

    for number, (begin, end) in enumerate([(0, 2), (2, 3), (3, 6)]):
        for emitter, events in told.items():
            body = b"".join(encode_frame(EVENT, data) for data in events[begin:end])
            receiver.take(emitter, body, "192.0.2.7")
            taken |= {f"{emitter}:{seq}" for seq in range(begin, end)}
            left = tmp_path / f"{number}-{emitter}"
            disk.survives(left, REST[rest])

            assert read_spools(left).names() == taken
    receiver.close()

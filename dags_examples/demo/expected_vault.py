"""What the examples with Vault should come to, as `expected` says it of the others."""

from __future__ import annotations

from dags_examples.demo.summary import Expected
from dags_examples.demo.vault_summary import ExpectedLeases

EXPECTED = Expected(
    started=("vault_credentials",),
    # Its schedule starts the rotation, as soon as it may: when nothing is sealed any more.
    runs={"vault_credentials": 1, "rotate_data_key": 1},
    last=("rotate_data_key",),
    refusals={},
    not_secured=frozenset({("rotate_data_key", "tell")}),
    counts={"sealed": 5, "signed": 5, "opened": 8},
)

# load, fresh, train and six of score; the partner's secret.
EXPECTED_LEASES = ExpectedLeases(logins=9, others=1)

"""Figures of the two back ends as lines of the table."""

from __future__ import annotations

import pytest

from benchmarks import secrets_backend, xcom


def test_secrets_are_compared_by_ratio_and_by_logins():
    fast, slow = {"first": [0.02], "cold": [0.004], "kept": [0.001]}, {}
    slow = {name: [2 * taken[0]] for name, taken in fast.items()}

    found = secrets_backend.rows(
        {
            "seconds": {"ours": fast, "official": slow},
            "denied": 200,
            "logins": {"ours": 1, "official": 201},
        }
    )

    assert [line[1] for line in found] == [
        "20.0 ms, each a durable event",
        "250/s, each a durable event",
        "1,000/s, each a durable event",
        "1",
    ]
    assert all("2.00 × as fast" in line[2] for line in found[:3])
    assert found[3][2:] == ("official: 201", "1: met")


@pytest.mark.parametrize("logins", [0, 2])
def test_any_other_number_of_logins_is_a_miss(logins):
    one = {"first": [1.0], "cold": [1.0], "kept": [1.0]}

    found = secrets_backend.rows(
        {
            "seconds": {"ours": one, "official": one},
            "denied": 200,
            "logins": {"ours": logins, "official": 201},
        }
    )

    assert found[3][3] == "1: **missed**"


def test_xcom_is_compared_by_ratio():
    found = xcom.rows(
        {
            "seconds": {
                "small": {"sealed": [0.002], "default": [0.00002]},
                "large": {"sealed": [0.004], "default": [0.00002]},
            }
        }
    )

    assert [line[1] for line in found] == ["2.00 ms", "4.00 ms"]
    assert found[0][2] == "default: 0.020 ms; 100 × as long as that"

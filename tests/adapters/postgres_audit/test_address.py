"""What an address may hold, and that what is refused is never shown."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.postgres_audit import parse_address
from airflow_secure_ml.errors import ConfigurationError

CANARY = "canary-4711"


@pytest.mark.parametrize(
    ("text", "hosts", "tls"),
    [
        ("postgresql://u@db.example.org/d", (("db.example.org", 5432),), "verify-full"),
        ("postgresql://u@a:1,b:2/d", (("a", 1), ("b", 2)), "verify-full"),
        ("postgresql://u@[2001:db8::1]:7/d", (("2001:db8::1", 7),), "verify-full"),
        ("postgresql://u@127.0.0.1/d", (("127.0.0.1", 5432),), "prefer"),
        ("postgresql://u@[::1]/d", (("::1", 5432),), "prefer"),
        ("postgresql:///d?host=/run/postgresql", (("/run/postgresql", 5432),), "prefer"),
        ("postgresql://u@localhost,db.example.org/d",
         (("localhost", 5432), ("db.example.org", 5432)), "verify-full"),
        ("postgresql://u@h/d?sslmode=require&allow_weaker_tls=yes", (("h", 5432),), "require"),
    ],
)  # fmt: skip
def test_an_address_says_how_it_is_reached(text, hosts, tls):
    found = parse_address(text)

    assert (found.hosts, found.tls, found.database) == (hosts, tls, "d")


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{CANARY}@h/d",
        f"postgresql://u%3A{CANARY}@h/d",
        f"postgresql://u@h/d?password={CANARY}",
        f"postgresql://u@h/d?passfile=/{CANARY}",
        f"postgresql://u@h/d?service={CANARY}",
        f"postgresql://u@h/d?options=-c{CANARY}",
        f"postgresql://u@h/d?sslmode={CANARY}",
        f"postgresql://u@127.0.0.1/d?sslmode={CANARY}",
        "postgresql://u@h/d?sslmode=disable",
        "postgresql://u@h/d?sslmode=prefer&allow_weaker_tls=yes",
        "postgresql://u@h/d?sslmode=require",
        "postgresql://u@h/d?sslmode=verify-full&sslmode=disable",
        "postgresql://u@h/d?sslrootcert=relative.pem",
        "postgresql://u@h:99999/d",
        "postgresql://u@h/",
        "postgresql://u@h/a=b",
        "postgresql://@h/d",
        "postgresql://u@h,/d",
        f"mysql://u@h/{CANARY}",
        f"host=h password={CANARY}",
    ],
)
def test_whatever_could_hold_a_secret_or_trust_too_much_is_refused_unseen(text):
    with pytest.raises(ConfigurationError, match="audit_store: found") as caught:
        parse_address(text)

    assert CANARY not in str(caught.value)

"""A connection to a server that ends after a set time, whatever the other end does.

Proxies of the environment are not used, as nothing here shall depend on who started the process.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.timed_sockets import ended_after

# How long it may be silent; and how long one request may take in all: a server that reads or
# answers a byte now and then would hold its job for hours.
TIMEOUT_S, DEADLINE_S = 10.0, 30.0


def context_of(service: str, ca: str, *, option: str = "") -> ssl.SSLContext:
    """What a server's certificate is checked by.

    Args:
        service: How errors name it.
        ca: Path of the certificates to trust, PEM; empty: those of the system.
        option: The option that names them, for errors; empty: none does.

    Raises:
        ConfigurationError: They cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        see = f"; see [secure_ml] {option}" if option else ""
        raise ConfigurationError(
            f"{service}: {ca}: expected certificates to trust, PEM: {error}{see}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@contextmanager
def connected(
    host: str, port: int, context: ssl.SSLContext | None, *, timeout_s: float, deadline_s: float
) -> Iterator[socket.socket]:
    """A connection, with TLS where a context is given.

    Raises:
        OSError: None was made, or TLS was not agreed upon.
    """
    with socket.create_connection((host, port), timeout_s) as plain, ended_after(deadline_s, plain):
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname=host) as safe:
                yield safe

"""Events as CEF to a syslog receiver over TLS: one connection a batch, ended in good order.

Syslog answers nothing. What stands for a confirmation is the receiver's own `close_notify` after
ours: its TLS has read every byte before it, in order. That it then stored them, no one says.

Source: RFC 5425, 4.3 (framing), 4.4 (closure).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from airflow_secure_ml import __version__
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.siem import Place, encode_syslog
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.outgoing import DEADLINE_S, TIMEOUT_S, connected, context_of


class SyslogReceiver:
    """One syslog receiver. A `core.audit.siem.Receiver`.

    Args:
        place: Its host, which its certificate has to name, and its port.
        ca: Path of the certificates to trust for it; empty: those of the system.
        timeout_s: How long it may be silent.
        deadline_s: How long one batch may take in all.
    """

    name = "siem syslog"

    def __init__(
        self,
        place: Place,
        *,
        ca: str = "",
        timeout_s: float = TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._place, self._ca = place, ca
        self._timeout_s, self._deadline_s = timeout_s, deadline_s

    def send(self, leaves: Sequence[Leaf], *, origin: str) -> None:
        """Write leaves and end the connection; returned: its TLS has read them all.

        Raises:
            ServiceUnavailableError: No connection, or it did not end it in good order.
            ConfigurationError: The certificates cannot be read.
        """
        lines = [encode_syslog(leaf, origin=origin, version=__version__) for leaf in leaves]
        context = context_of(self.name, self._ca, option="siem_ca")
        host, port = self._place.host, self._place.port
        limits = {"timeout_s": self._timeout_s, "deadline_s": self._deadline_s}
        try:
            with connected(host, port, context, **limits) as line:
                if not isinstance(line, ssl.SSLSocket):
                    raise OSError("no TLS")
                line.sendall(b"".join(lines))
                # Sends ours and waits for its own. An end of the bare connection anybody on the
                # way could make: it is an error here.
                line.unwrap().close()
        except OSError as error:
            raise ServiceUnavailableError(
                service=self.name,
                action="take events",
                reason=f"{type(error).__name__}: {error}".strip()[:300],
            ) from error

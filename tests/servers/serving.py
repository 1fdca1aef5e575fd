"""HTTP servers in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator

# The pause between a server's looks at whether to stop.
POLL_S = 0.02


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[None]:
    """Let a server answer for as long as the block lasts; then it is closed."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

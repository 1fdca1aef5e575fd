"""Whose a session token is, asked of Airflow's auth manager off the event loop.

Only the recorder's thread calls this. Tokens are neither kept nor logged: what is remembered is a
token's digest and the name behind it, which never changes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from jwt import InvalidTokenError

# One user has many tokens, and a stranger may send any number of wrong ones.
MAX_REMEMBERED = 2048
MAX_TOKEN_CHARS = 8192
ANSWER_S = 5.0

Lookup = Callable[[str], Coroutine[Any, Any, Any]]


class Identities:
    """Names behind tokens; for one thread.

    Args:
        lookup: Gives the user of a valid token, and raises for any other; Airflow's by default.
    """

    def __init__(self, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or _ask_airflow
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known: OrderedDict[bytes, str | None] = OrderedDict()

    def who(self, token: str) -> str | None:
        """The user's name as Airflow's own log has it; None: the token is nobody's."""
        if not token or len(token) > MAX_TOKEN_CHARS:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        if digest in self._known:
            self._known.move_to_end(digest)
            return self._known[digest]
        try:
            found = self._ask(token)
        except InvalidTokenError:
            found = None
        except Exception:  # noqa: BLE001 - an auth manager may fail in any way; the event stands
            # Not remembered: a database that does not answer now may know the user next time.
            return None
        self._known[digest] = found
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _ask(self, token: str) -> str | None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return name_of(
            self._loop.run_until_complete(asyncio.wait_for(self._lookup(token), ANSWER_S))
        )


def name_of(user: Any) -> str | None:
    """A user's name as Airflow's own log has it; None: there is none."""
    try:
        return str(user.get_name()) or None
    except Exception:  # noqa: BLE001 - any auth manager's user; an event without a name is one
        return None


async def _ask_airflow(token: str) -> Any:
    from airflow.api_fastapi.app import get_auth_manager

    return await get_auth_manager().get_user_from_token(token)

"""Do one thing to many items, several at once where that helps; the first error stops all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

_I = TypeVar("_I")
_R = TypeVar("_R")


def several(act: Callable[[_I], _R], items: Sequence[_I], *, at_once: int) -> list[_R]:
    """Call `act` with each item; what it returned, in the items' order.

    Args:
        act: Safe from many threads.
        items: What to call it with.
        at_once: How many threads; 1: here, one item after another.

    Raises:
        BaseException: The first that `act` raised. Nothing is begun after it, and what was begun
            has ended.
    """
    if at_once <= 1 or len(items) <= 1:
        return [act(item) for item in items]
    done: dict[int, _R] = {}
    errors: list[BaseException] = []
    left = iter(range(len(items)))
    guard = threading.Lock()

    def work() -> None:
        # Taken one by one, not handed out: no queue of thousands, and a stop is felt at once.
        while not errors:
            with guard:
                number = next(left, None)
            if number is None:
                return
            try:
                done[number] = act(items[number])
            except BaseException as error:  # noqa: BLE001 - raised again, where the caller is
                errors.append(error)

    with ThreadPoolExecutor(min(at_once, len(items))) as pool:
        try:
            wait([pool.submit(work) for _ in range(min(at_once, len(items)))])
        except BaseException as error:  # noqa: BLE001 - raised again, when all have ended
            errors.append(error)
    if errors:
        raise errors[0]
    return [done[number] for number in range(len(items))]

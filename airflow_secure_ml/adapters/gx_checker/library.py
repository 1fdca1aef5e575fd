"""Import Great Expectations without ending the process.

It imports PySpark where that is installed, and PySpark takes a program without a file (`python
-c`, a process pool's worker) for its own doctests and calls `sys.exit(0)`: a check would look like
a task that succeeded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def load_library() -> None:
    """Import the library, so that every later import of it in this process is safe."""
    with importable():
        importlib.import_module("great_expectations")


@contextmanager
def importable() -> Iterator[None]:
    """Let the library be imported inside, by whomever."""
    main = sys.modules["__main__"]
    if hasattr(main, "__file__") or getattr(main, "__spec__", None) is not None:
        yield
        return
    main.__file__ = "<no file>"
    try:
        yield
    finally:
        del main.__file__

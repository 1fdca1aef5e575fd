"""How long an import and the console script take, in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import in_turns, run

_HAS_AIRFLOW = (
    "import sys, airflow_secure_ml; "
    "sys.exit(any(name.split('.')[0] == 'airflow' for name in sys.modules))"
)


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Seconds by program and round.

    Raises:
        RuntimeError: Importing the package imported Airflow.
    """
    python = sys.executable
    script = Path(python).with_name("secure-ml")
    run([python, "-c", _HAS_AIRFLOW], cwd=folder)
    works = {
        "python": lambda: run([python, "-c", "pass"], cwd=folder).wall_s,
        "import": lambda: run([python, "-c", "import airflow_secure_ml"], cwd=folder).wall_s,
        "secure-ml --version": lambda: run([script, "--version"], cwd=folder).wall_s,
    }
    return {"seconds": in_turns(works, 5 if quick else 20, "starting")}

"""The reconciler as a program: `python -I -m airflow_secure_ml.reconciling`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run rounds until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="airflow_secure_ml.reconciling", description=__doc__)
    parser.add_argument("--every-s", type=float, required=True)
    parser.add_argument("--parent", type=int, default=None, help="end when this process does")
    options = parser.parse_args(arguments)
    # Airflow sets up logging of its own when it is imported; before that there is this.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    from airflow_secure_ml.reconciling.program import serve

    return serve(options.every_s, parent=options.parent)


if __name__ == "__main__":
    sys.exit(main())

"""Write docs/settings.md from the provider's own declaration: `python docs/make_settings.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "settings.md"

_HEAD = """\
# Settings

Section `[secure_ml]` of Airflow's configuration. As with every option of Airflow, in this order:
the variable `AIRFLOW__SECURE_ML__<OPTION>`, the output of the command in
`AIRFLOW__SECURE_ML__<OPTION>_CMD`, `<option>` in `airflow.cfg`, the output of the command in
`<option>_cmd` there, the default. No option is a secret. An option that does not exist, or a value
that is not allowed, is an error and not a warning.

| option | default | what it is |
|---|---|---|
"""

_TAIL = """
Scratch: opened data lies in a directory of its own below the first of `scratch_dirs` with room
for all of it. In a container `/dev/shm` has 64 MiB unless it is told otherwise (`--shm-size`; in
Kubernetes an `emptyDir` with `medium: Memory`). What is there is unlinked, not overwritten, when
the task ends or is killed: memory that the kernel gives out again is zeroed. A host that swaps may
write it to its swap space; encrypt that, or switch it off.
"""


def render() -> str:
    """Return the page."""
    sys.path.insert(0, str(ROOT))
    from airflow_secure_ml.get_provider_info import get_provider_info

    options = get_provider_info()["config"]["secure_ml"]["options"]
    rows = []
    for name, option in options.items():
        about = option["description"]
        if option["example"]:
            about += f" Example: `{option['example']}`"
        default = f"`{option['default']}`" if option["default"] else "empty"
        rows.append(f"| `{name}` | {default} | {about} |")
    return _HEAD + "\n".join(rows) + "\n" + _TAIL


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")

"""What a figure was measured on: nothing that names a host, a user or a path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

_FLAGS = {"sha_ni": "SHA-NI", "vaes": "VAES", "aes": "AES-NI", "sha2": "SHA2", "pmull": "PMULL"}


def describe_machine() -> dict[str, Any]:
    """Processor, memory and versions."""
    return {
        **parse_cpu(Path("/proc/cpuinfo").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": parse_memory_gib(Path("/proc/meminfo").read_text()),
        "kernel": f"{platform.system()} {parse_release(platform.release())}",
        "python": platform.python_version(),
        "cryptography": importlib.metadata.version("cryptography"),
    }


def load_average() -> float:
    """Of the last minute: more than 1 means that others use the machine, too."""
    return round(os.getloadavg()[0], 2)


def parse_cpu(text: str) -> dict[str, Any]:
    """Model and the instructions that matter here, of a /proc/cpuinfo."""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    found = set(flags[1].split()) if flags else set()
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "flags": [shown for flag, shown in _FLAGS.items() if flag in found],
    }


def parse_release(text: str) -> str:
    """The kernel's version, without what a distribution or a host adds to it."""
    found = re.match(r"\d+(\.\d+)*", text)
    return found[0] if found else "of unknown version"


def parse_memory_gib(text: str) -> int:
    """All memory, of a /proc/meminfo."""
    total = re.search(r"^MemTotal:\s*(\d+) kB", text, re.MULTILINE)
    return round(int(total[1]) / (1 << 20)) if total else 0

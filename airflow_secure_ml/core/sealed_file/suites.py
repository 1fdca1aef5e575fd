"""The suites that a file's payload may be of, by their number in its core."""

from __future__ import annotations

from airflow_secure_ml.core.sealed_file.cobblestone import Cobblestone256
from airflow_secure_ml.core.sealed_file.header import FILE_SUITES
from airflow_secure_ml.core.sealed_file.payload import Aes256Gcm1Mb
from airflow_secure_ml.core.sealed_file.segments import PayloadSuite
from airflow_secure_ml.errors import FormatError

_SUITES: dict[int, PayloadSuite] = {
    suite.number: suite for suite in (Aes256Gcm1Mb(), Cobblestone256())
}
assert tuple(_SUITES) == FILE_SUITES


def payload_suite(number: int) -> PayloadSuite:
    """The suite of that number.

    Raises:
        FormatError: A suite without a payload, or one that this release does not know.
    """
    found = _SUITES.get(number)
    if found is None:
        raise FormatError(
            f"suite 0x{number:02x}: expected one with a payload, "
            f"{', '.join(f'0x{each:02x}' for each in FILE_SUITES)}"
        )
    return found

"""Load a suite from where it comes from; `core.suite` decides whether it may be run."""

from __future__ import annotations

from airflow_secure_ml.adapters.gx_checker.library import importable
from airflow_secure_ml.core.suite import MAX_SUITE_BYTES, Suite, parse_suite, parse_suite_text
from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.errors import ConfigurationError


def load_suite(source: SuiteSource) -> Suite:
    """Read a suite file, or call a callable and read what it returns.

    A callable's suite is taken apart into the same JSON form as a file's, so both pass the same
    checks; what the callable itself raises is passed on.

    Raises:
        ConfigurationError: It is unreadable, not a suite, or asks for what is not allowed.
    """
    name = f"suite {source.name}"
    if source.path is not None:
        try:
            with source.path.open("rb") as file:
                text = file.read(MAX_SUITE_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                f"{name}: expected a readable file at {source.path}, found {error.strerror}"
            ) from error
        return parse_suite_text(text, name)
    with importable():
        found = source.build() if source.build is not None else None
    as_json = getattr(found, "to_json_dict", None)
    if not callable(as_json):
        raise ConfigurationError(
            f"{name}: expected the callable to return an ExpectationSuite, "
            f"found {type(found).__name__}"
        )
    return parse_suite(as_json(), name)

"""Where the text of an option of [secure_ml] comes from; what it means is `settings`' business.

Order, as everywhere in Airflow: environment, command in the environment, airflow.cfg, command in
airflow.cfg, declared default. A misspelt option is an error, since a rule that is silently not
applied is worse than a task that does not start.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from configparser import Error as ConfigParserError

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.get_provider_info import get_provider_info

SECTION = "secure_ml"
_PREFIX = "AIRFLOW__SECURE_ML__"
_COMMAND_TIMEOUT_S = 60

_Lookup = Callable[[str], str | None]


def airflow_is_loaded() -> bool:
    """Whether this process has imported Airflow's configuration."""
    return "airflow.sdk.configuration" in sys.modules or "airflow.configuration" in sys.modules


def declared_options() -> dict[str, str]:
    """Return the default of every option, with {AIRFLOW_HOME} filled in."""
    config: dict[str, dict[str, dict[str, dict[str, str]]]] = get_provider_info()["config"]  # type: ignore[assignment]  # the literal's own shape; a test validates it against Airflow's schema
    options = config[SECTION]["options"]
    home = _airflow_home()
    return {name: str(o["default"]).replace("{AIRFLOW_HOME}", home) for name, o in options.items()}


def read_texts(*, with_airflow: bool) -> dict[str, str]:
    """Return the text of every option that is set somewhere.

    Args:
        with_airflow: Look values up by Airflow's reader instead of by standard library.

    Raises:
        ConfigurationError: An unknown option, `_SECRET`, a failing command, an unreadable file.
    """
    try:
        lookup, in_file = _through_airflow() if with_airflow else _through_file()
        declared = list(declared_options())
        _refuse_unknown(declared, in_file)
        found = {name: _text(name, lookup, in_file) for name in declared}
    except ConfigParserError as error:
        raise ConfigurationError(f"airflow.cfg: [{SECTION}] cannot be read: {error}") from error
    return {name: text for name, text in found.items() if text is not None}


def _text(name: str, lookup: _Lookup, in_file: list[str]) -> str | None:
    variable = _PREFIX + name.upper()
    if variable in os.environ:
        return lookup(name)
    if variable + "_CMD" in os.environ:
        return _run(name, os.environ[variable + "_CMD"])
    if name in in_file:
        return lookup(name)
    if name + "_cmd" in in_file:
        return _run(name, lookup(name + "_cmd") or "")
    return None


def _refuse_unknown(declared: list[str], in_file: list[str]) -> None:
    in_environment = [v[len(_PREFIX) :].lower() for v in os.environ if v.startswith(_PREFIX)]
    for name in sorted({*in_environment, *in_file}):
        if name.removesuffix("_secret") in declared and name not in declared:
            raise ConfigurationError(
                f"[{SECTION}] {name}: found an option from a secrets backend; no option of this "
                f"section is a secret. Set {name.removesuffix('_secret')}, or the same with _cmd"
            )
        if name.removesuffix("_cmd") not in declared:
            raise ConfigurationError(
                f"[{SECTION}] {name}: no such option; allowed: {', '.join(declared)}"
            )


def _through_airflow() -> tuple[_Lookup, list[str]]:
    from airflow.sdk.configuration import conf

    # With a fallback Airflow stops before it collects the defaults of every installed provider.
    return lambda name: conf.get(SECTION, name, fallback=None), _own_options(conf)


def _through_file() -> tuple[_Lookup, list[str]]:
    path = os.environ.get("AIRFLOW_CONFIG")
    path = _expand(path) if path is not None else os.path.join(_airflow_home(), "airflow.cfg")
    parser = ConfigParser()
    try:
        parser.read(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {type(error).__name__}") from error

    def lookup(name: str) -> str | None:
        in_environment = os.environ.get(_PREFIX + name.upper())
        if in_environment is not None:
            return _expand(in_environment)
        text = parser.get(SECTION, name, fallback=None)
        return None if text is None else _expand(text)

    return lookup, _own_options(parser)


def _own_options(parser: ConfigParser) -> list[str]:
    if not parser.has_section(SECTION):
        return []
    inherited = parser.defaults()
    return [name for name in parser.options(SECTION) if name not in inherited]


def _airflow_home() -> str:
    return _expand(os.environ.get("AIRFLOW_HOME", "~/airflow"))


def _expand(text: str) -> str:
    # As Airflow does it: until nothing changes, so that a variable may name another one.
    while (expanded := os.path.expanduser(os.path.expandvars(text))) != text:
        text = expanded
    return text


def _run(name: str, command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own setting, split, never a shell
            shlex.split(command),
            capture_output=True,
            text=True,
            check=True,
            timeout=_COMMAND_TIMEOUT_S,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        # Neither the command nor its output: both may hold what is secret.
        raise ConfigurationError(
            f"[{SECTION}] {name}_cmd: the command failed ({type(error).__name__}); "
            "expected: exit status 0 and the value on standard output"
        ) from error
    return done.stdout.strip()

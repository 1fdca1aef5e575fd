"""Read Sigma files: those that come with the package, and a deployment's own.

YAML is read as data alone, without aliases: nine lines of them would be gigabytes.

Source: Sigma 2.1, Rules, File Structure.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from airflow_secure_ml.core.alerts.reading import Document, parse_rules
from airflow_secure_ml.core.alerts.rule import AlertRule
from airflow_secure_ml.errors import ConfigurationError

MAX_FILE_BYTES, MAX_FILES = 64 * 1024, 500
SHIPPED = "alert_rules"
_ENDINGS = (".yml", ".yaml")


def read_rules(directory: Path | None, off: Collection[str]) -> tuple[AlertRule, ...]:
    """The rules that are in force: the shipped ones and those of a directory.

    A rule of the directory takes the place of the shipped one of the same name.

    Args:
        directory: A deployment's own rules; None: none.
        off: Names of rules that are not evaluated; `all`: none is.

    Raises:
        ConfigurationError: A file cannot be read, or a rule is not evaluated as it stands.
    """
    if "all" in off:
        return ()
    own = () if directory is None else parse_rules(_own(directory))
    shipped = shipped_rules()
    missing = sorted(set(off) - {rule.name for rule in (*own, *shipped)})
    if missing:
        raise ConfigurationError(f"[secure_ml] audit_rules_off: there is no rule {missing[0]!r}")
    found = {rule.name: rule for rule in (*shipped, *own)}
    return tuple(found[name] for name in sorted(found) if name not in off)


@functools.cache
def shipped_rules() -> tuple[AlertRule, ...]:
    """The rules that come with the package."""
    folder = resources.files("airflow_secure_ml").joinpath(SHIPPED)
    files = sorted((each for each in folder.iterdir()), key=lambda each: each.name)
    return parse_rules(
        document
        for file in files
        if file.name.endswith(_ENDINGS)
        for document in _documents(file.name, file.read_bytes())
    )


def _own(directory: Path) -> Iterator[Document]:
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix in _ENDINGS)
        if len(paths) > MAX_FILES:
            raise ConfigurationError(f"{directory}: {len(paths)} rules' files, at most {MAX_FILES}")
        for path in paths:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            yield from _documents(str(path), data)
    except OSError as error:
        raise ConfigurationError(
            f"[secure_ml] audit_rules_dir: {error.filename}: {error.strerror}; expected a "
            "directory of Sigma files"
        ) from error


def _documents(source: str, data: bytes) -> Iterator[Document]:
    # Imported here: the core needs no YAML, and a process without alerts does not either.
    import yaml

    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"alert rule {source}: over {MAX_FILE_BYTES:,} bytes")
    try:
        found = list(yaml.load_all(data, Loader=_loader()))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"alert rule {source}: no YAML that is read here: {said}"
        ) from error
    for at, body in enumerate(found):
        name = source if len(found) == 1 else f"{source}, document {at + 1}"
        if not isinstance(body, dict):
            raise ConfigurationError(f"alert rule {name}: expected a rule, found no mapping")
        yield Document(source=name, body=body)


def _loader() -> Any:
    import yaml

    class PlainLoader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML brings no types
        """YAML without aliases, names given twice and dates."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("an alias (`*name`)")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            if len({str(name) for name in names}) != len(names):
                raise yaml.YAMLError(f"a name given twice, line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    PlainLoader.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return PlainLoader

"""A secret as a store holds it, and who may use it: the DAGs and tasks that it names.

A restriction tells honest code apart. What keeps hostile code out is the store's own policy for
whoever logs in there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.errors import ConfigurationError

KINDS = ("connections", "variables", "config")
DAGS, TASKS = "dags", "tasks"
# In the secret itself, for stores that keep no metadata beside it.
FIELD_PREFIX = "secure_ml_"
_FIELDS = (FIELD_PREFIX + DAGS, FIELD_PREFIX + TASKS)
_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """A secret; never printed, never pickled.

    Attributes:
        stored: Its fields; JSON values.
        metadata: What its owners wrote beside it, if the store keeps such.
    """

    stored: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> NoReturn:
        # A pickle would carry it into an XCom or a queue.
        raise TypeError("a StoredSecret cannot be pickled; pass the secret's name instead")

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields without those that say who may use it."""
        return {name: value for name, value in self.stored.items() if name not in _FIELDS}

    def restrictions(self) -> list[Restriction]:
        """Everything that says who may use it.

        Raises:
            ConfigurationError: One cannot be read; then nobody may.
        """
        inside = {
            name.removeprefix(FIELD_PREFIX): value
            for name, value in self.stored.items()
            if name.startswith(FIELD_PREFIX)
        }
        misspelt = sorted(set(inside) - {DAGS, TASKS})
        if misspelt:
            raise ConfigurationError(
                f"field {FIELD_PREFIX}{misspelt[0][:_MAX_SHOWN]}: expected {' or '.join(_FIELDS)}"
            )
        return [one for one in map(parse_restriction, (self.metadata, inside)) if one is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """Who may use a secret.

    Attributes:
        dags: Globs of DAG ids.
        tasks: Pairs of globs: of a DAG id and of a task id in it.
    """

    dags: tuple[str, ...] = ()
    tasks: tuple[tuple[str, str], ...] = ()

    def allows(self, run: RunRef | None) -> bool:
        """Whether a task try may use it; None, whoever is no task, may not."""
        if run is None or run.task is None:
            return False
        if any(fnmatchcase(run.dag, glob) for glob in self.dags):
            return True
        return any(
            fnmatchcase(run.dag, dag) and fnmatchcase(run.task, task) for dag, task in self.tasks
        )


def parse_restriction(found: Mapping[str, Any]) -> Restriction | None:
    """The restriction that `dags` and `tasks` in a mapping say; None: neither is there.

    Args:
        found: `dags`: globs separated by commas; `tasks`: the same of `dag/task`. A slash, since
            a dot may stand in either id.

    Raises:
        ConfigurationError: Not such texts.
    """
    if DAGS not in found and TASKS not in found:
        return None
    tasks = []
    for text in _items(TASKS, found.get(TASKS, "")):
        dag, slash, task = text.partition("/")
        if not slash or not dag or not task or "/" in task:
            raise ConfigurationError(
                f"{TASKS}: found {text[:_MAX_SHOWN]!r}; expected dag/task, globs in either"
            )
        tasks.append((dag, task))
    return Restriction(dags=_items(DAGS, found.get(DAGS, "")), tasks=tuple(tasks))


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRule:
    """A restriction of the platform team's, for every secret of some names.

    Attributes:
        names: A glob over kind and name, such as `connections/prod_*`.
        restriction: Who may use them.
    """

    names: str
    restriction: Restriction


def parse_secret_rules(found: Any) -> tuple[SecretRule, ...]:
    """Read `rules`: an object of glob to `{"dags": …, "tasks": …}`.

    Raises:
        ConfigurationError: Not such an object.
    """
    if not isinstance(found, Mapping):
        raise ConfigurationError("rules: expected an object of connections/… or variables/… globs")
    rules = []
    for names, text in found.items():
        allowed = parse_restriction(text) if isinstance(text, Mapping) else None
        kind = str(names).partition("/")[0]
        if allowed is None or set(text) - {DAGS, TASKS} or kind not in KINDS:
            raise ConfigurationError(
                f"rules: {str(names)[:_MAX_SHOWN]!r}: expected connections/…, variables/… or "
                'config/…, and {"dags": "…", "tasks": "…"}'
            )
        rules.append(SecretRule(names=str(names), restriction=allowed))
    return tuple(rules)


def rules_for(rules: Sequence[SecretRule], names: Collection[str]) -> list[Restriction]:
    """The platform team's restrictions of one secret; all must allow.

    Args:
        rules: All of them.
        names: Every kind and name that leads to it, such as `connections/prod_db`.
    """
    return [
        rule.restriction for rule in rules if any(fnmatchcase(name, rule.names) for name in names)
    ]


def _items(name: str, text: Any) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise ConfigurationError(f"{name}: expected a text, globs separated by commas")
    return tuple(item.strip() for item in text.split(",") if item.strip())

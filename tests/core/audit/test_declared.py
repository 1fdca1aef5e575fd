"""One catalogue: the code records nothing that is not in it, and all that is in it is recorded.

Read from the source, so that a path which no test takes counts too. What flows through variables
is held against the catalogue by every sink when it is recorded.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import airflow_secure_ml
from airflow_secure_ml.core.audit.catalogue import ACTIVITIES, WHYS
from airflow_secure_ml.core.audit.event import _PARTS, _RUN

PACKAGE = Path(airflow_secure_ml.__file__).parent
# They tell readers about events, or other systems, and record none.
READERS = frozenset(
    {
        *("core/audit/catalogue.py", "core/audit/ocsf.py", "core/audit/cef.py"),
        *("plugin/sentences.py", "plugin/views.py", "plugin/filters.py", "plugin/lanes.py"),
        *("plugin/facets.py", "services/endings.py", "verifier/verify.py"),
    }
)
# Declared, and recorded by nobody yet; each with what will.
NOT_YET = {
    "object.quarantine": "rows that fail are refused with the whole; nothing sets them aside yet",
}
FACTS_NOT_YET = {
    "forerunner": "of a log that goes on from another, when pruning makes one",
    "forerunner_root": "as forerunner",
    "forerunner_size": "as forerunner",
    "from_uri": "of object.quarantine",
    "expects": "what a task expects of its data stands in the rule that it names",
    "expires": "a lease's end follows from ttl_s and the event's time",
    "from_state": "a key's state before stands in the event that made it so",
    "queue": "Airflow does not tell a task's listener",
    "rests_on": "no outcome rests on another event than its intent yet",
}
# Put together where they are recorded, from a state and a word before it.
COMPOSED = frozenset(f"emitters_{state}" for state in ("cut", "gap", "torn"))
# What reads like an activity and is none: files, and the beginning of two of them.
NO_ACTIVITIES = frozenset({"trail.lock", "trail.db", "lease.re"})
FAMILIES = frozenset(act.partition(".")[0] for act in ACTIVITIES)
FIELDS = frozenset(
    f"{part}.{name}" for part, names in {**_PARTS, "run": _RUN}.items() for name in names
)
SHAPE = re.compile(rf"({'|'.join(sorted(FAMILIES))})\.[a-z_]+")


@dataclass(frozen=True)
class Said:
    """A place of the source where an activity is recorded."""

    where: str
    act: str
    phases: frozenset[str]
    facts: frozenset[str]


MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def takers() -> dict[str, int | None]:
    """Who takes an activity, and as which positional argument."""
    # They call it by another name than `act`.
    found: dict[str, int | None] = {"Fact": None, "act": 0, "see": 0}
    for tree in MODULES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [arg.arg for arg in node.args.posonlyargs + node.args.args]
                if "act" in names:
                    found[node.name] = names.index("act") - (names[0] in ("self", "cls"))
                elif "act" in [arg.arg for arg in node.args.kwonlyargs]:
                    found.setdefault(node.name, None)
    return found


def constants(tree: ast.Module) -> dict[str, list[str]]:
    """A module's own names for literals."""
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for name, literal in pairs:
            if isinstance(name, ast.Name) and texts_of(literal, {}):
                found[name.id] = texts_of(literal, {})
    return found


def texts_of(node: ast.AST | None, named: dict[str, list[str]]) -> list[str]:
    """The literals that an expression may be: of `a if c else b` both."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return texts_of(node.body, named) + texts_of(node.orelse, named)
    return named.get(node.id, []) if isinstance(node, ast.Name) else []


def facts_of(call: ast.Call, function: str) -> set[str]:
    """The fact names that stand there as literals."""
    found: set[str] = set()
    for keyword in call.keywords:
        if keyword.arg == "more" and isinstance(keyword.value, ast.Dict):
            found |= {text for key in keyword.value.keys for text in texts_of(key, {})}
    if function == "seen":
        found |= {keyword.arg for keyword in call.keywords if keyword.arg} - {"why"}
    return found


def places() -> Iterator[Said]:
    taken = takers()
    for module, tree in MODULES.items():
        if module in READERS:
            continue
        named = constants(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            act, position = given.get("act"), taken.get(function)
            if act is None and position is not None and 0 <= position < len(node.args):
                act = node.args[position]
            for text in texts_of(act, named):
                yield Said(
                    f"{module}:{node.lineno}",
                    text,
                    frozenset(texts_of(given.get("phase"), named)),
                    frozenset(facts_of(node, function)),
                )


SAID = [said for said in places() if SHAPE.fullmatch(said.act)]


def words() -> set[str]:
    """Every literal and every name of an argument, where something may be recorded."""
    found: set[str] = set()
    for module, tree in MODULES.items():
        if module in READERS:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg:
                found.add(node.arg)
    return found


def test_this_test_sees_where_things_are_recorded():
    """It would pass if it looked past them all."""
    told = {said.act for said in SAID}

    assert {"task.secure", "trail.emitter", "key.rotate", "user.act", "xcom.write"} <= told
    assert len(SAID) > 60
    assert any(said.facts for said in SAID if said.act == "trail.refused")


def test_nothing_speaks_of_an_activity_that_is_not_declared():
    found = {
        f"{module}:{node.lineno} {node.value}"
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and SHAPE.fullmatch(node.value)
        and node.value not in ACTIVITIES.keys() | FIELDS | NO_ACTIVITIES
    }

    assert found == set()


def test_no_fact_is_recorded_that_is_not_declared():
    found = set()
    for said in SAID:
        declared = ACTIVITIES[said.act].facts
        phases = [declared.get(phase, {}) for phase in said.phases or declared]
        missing = said.facts - set().union(*phases)
        found |= {f"{said.where} {said.act}: {fact}" for fact in missing}

    assert found == set()


def test_no_phase_is_recorded_that_is_not_declared():
    found = {
        f"{said.where} {said.act} {phase}"
        for said in SAID
        for phase in said.phases
        if phase not in ACTIVITIES[said.act].facts
    }

    assert found == set()


def test_every_declared_activity_is_recorded_by_somebody():
    missing = set(ACTIVITIES) - {said.act for said in SAID}

    assert missing == set(NOT_YET)


def test_every_declared_fact_is_given_by_somebody():
    declared = {
        fact
        for activity in ACTIVITIES.values()
        for facts in activity.facts.values()
        for fact in facts
    }

    assert declared - words() - COMPOSED == set(FACTS_NOT_YET)


def test_every_declared_reason_is_given_by_somebody():
    assert WHYS - words() == set()

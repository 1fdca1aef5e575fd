"""Who may see and do what: a reader's scope, their rights, the token that a change must carry.

Airflow's auth manager decides. An event of a DAG needs that DAG's audit log; an event without a
DAG needs the right to all of them, as Airflow asks for its own log. Exporting, acknowledging and
administering are rights of their own, over what the scope shows.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

from airflow.api_fastapi.app import get_auth_manager, get_auth_manager_cls
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import (
    SimpleAuthManager,
    SimpleAuthManagerRole,
)
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.configuration import conf
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException, Request, status
from sqlalchemy import select

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.plugin.identities import name_of
from airflow_secure_ml.plugin.trail import now_ms
from airflow_secure_ml.plugin.wording import fields

TOKEN_HOURS = 12
_HOUR_MS = 3_600_000
_TOKEN_PURPOSE = b"asml/v1/form\0"
# No DAG can have this id, so only a right to every DAG, those to come and those gone, allows it.
_EVERY_DAG = DagDetails(id="every DAG?")


class Right(StrEnum):
    """What a reader may do with what they may see."""

    EXPORT = "export"
    ACKNOWLEDGE = "acknowledge"
    ADMINISTER = "administer"


# SimpleAuth: the least role that has the right.
_SIMPLE_ROLES = {
    Right.EXPORT: SimpleAuthManagerRole.USER,
    Right.ACKNOWLEDGE: SimpleAuthManagerRole.OP,
    Right.ADMINISTER: SimpleAuthManagerRole.ADMIN,
}
# Every other manager: what it is asked. FAB: can_create, can_edit on "Audit Logs".
_METHODS: dict[Right, tuple[Literal["POST", "PUT"], str]] = {
    Right.EXPORT: ("POST", "Audit Logs"),
    Right.ACKNOWLEDGE: ("PUT", "Audit Logs"),
    Right.ADMINISTER: ("PUT", "Roles"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one reader may see, and do with it.

    Attributes:
        user: The reader's name, as Airflow's own log has it.
        dags: Only the events of these DAGs; None: the whole log.
        rights: What they may do besides reading.
    """

    user: str
    dags: tuple[str, ...] | None
    rights: frozenset[Right] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether the reader may see every event, and so the log's size and its proofs."""
        return self.dags is None

    @property
    def may_export(self) -> bool:
        """Whether the reader may take files of events away."""
        return Right.EXPORT in self.rights

    @property
    def may_acknowledge(self) -> bool:
        """Whether the reader may answer alerts and write in reviews."""
        return Right.ACKNOWLEDGE in self.rights

    @property
    def may_administer(self) -> bool:
        """Whether the reader may say who reviews what."""
        return Right.ADMINISTER in self.rights

    def limit(self, query: EventQuery) -> EventQuery:
        """The same query, for what this reader may see."""
        return replace(query, dags=self.dags)

    def covers(self, event: Mapping[str, Any]) -> bool:
        """Whether this reader may see the event."""
        return self.dags is None or fields(event, "run").get("dag") in self.dags


def scope_of(user: GetUserDep) -> Scope:
    """The scope of whoever asks; a route that depends on it is not anonymous.

    Raises:
        HTTPException: 403: the reader may see the audit log of no DAG.
    """
    manager = get_auth_manager()
    name = name_of(user) or str(user.get_id())
    rights = rights_of(user)
    entity = DagAccessEntity.AUDIT_LOG
    readable = manager.get_authorized_dag_ids(user=user, method="GET")
    general = manager.is_authorized_dag(method="GET", access_entity=entity, user=user)
    # Having each of today's DAGs is not enough: the log holds events of those deleted, too.
    every_dag = manager.is_authorized_dag(method="GET", details=_EVERY_DAG, user=user)
    if general and every_dag and readable >= _all_dags():
        return Scope(user=name, dags=None, rights=rights)
    if not general:
        readable = {dag for dag in readable if _may_audit(user, dag)}
    if not readable:
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, "You may not read the audit log of any DAG here."
        )
    return Scope(user=name, dags=tuple(sorted(readable)), rights=rights)


def rights_of(user: GetUserDep) -> frozenset[Right]:
    """What a user may do besides reading, by their role or permissions in Airflow."""
    manager = get_auth_manager()
    if isinstance(user, SimpleAuthManagerUser):
        order = SimpleAuthManagerRole[user.role.upper()].order if user.role else -1
        return frozenset(right for right, role in _SIMPLE_ROLES.items() if order >= role.order)
    found = frozenset(
        right
        for right, (method, resource) in _METHODS.items()
        if manager.is_authorized_custom_view(method=method, resource_name=resource, user=user)
    )
    # Who may edit roles could give themselves the others.
    return frozenset(Right) if Right.ADMINISTER in found else found


def ignores_dags() -> bool:
    """Whether Airflow's auth manager has no rights to single DAGs."""
    return issubclass(get_auth_manager_cls(), SimpleAuthManager)


def _all_dags() -> set[str]:
    # Not the caller's session: that one belongs to Airflow's own request.
    with create_session(scoped=False) as session:
        return set(session.scalars(select(DagModel.dag_id)))


def _may_audit(user: GetUserDep, dag_id: str) -> bool:
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.AUDIT_LOG, details=details, user=user
    )


ScopeDep = Annotated[Scope, Depends(scope_of)]


def whole_log(scope: ScopeDep) -> Scope:
    """The scope of a reader of everything; others are refused.

    Raises:
        HTTPException: 403: the reader may see some DAGs' events only.
    """
    if not scope.whole:
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            "This page speaks of the whole log; it needs the right to every DAG's audit log.",
        )
    return scope


WholeLogDep = Annotated[Scope, Depends(whole_log)]


def having(right: Right) -> Callable[[Scope], Scope]:
    """A dependency that gives the scope of a reader who has a right, and refuses others.

    It refuses with status 403.
    """

    def scope_with_right(scope: ScopeDep) -> Scope:
        if right not in scope.rights:
            raise HTTPException(
                status.HTTP_403_FORBIDDEN,
                f"You may read here, but not {right}; ask whoever gives out roles in Airflow.",
            )
        return scope

    return scope_with_right


ExportDep = Annotated[Scope, Depends(having(Right.EXPORT))]
AcknowledgeDep = Annotated[Scope, Depends(having(Right.ACKNOWLEDGE))]


def form_token(user: str, hour: int | None = None) -> str:
    """The token that a form of this user carries, made in this hour since 1970; None: now."""
    hour = now_ms() // _HOUR_MS if hour is None else hour
    secret = conf.get_mandatory_value("api", "secret_key").encode()
    message = _TOKEN_PURPOSE + f"{hour}\0{user}".encode()
    return f"{hour}.{hmac.new(secret, message, hashlib.sha256).hexdigest()}"


def check_form(request: Request, scope: Scope, token: str, hour: int | None = None) -> None:
    """Return if a change was asked for by our own page.

    Args:
        request: What asks for it.
        scope: Who asks.
        token: What the form carried.
        hour: When, in hours since 1970; None: now.

    Raises:
        HTTPException: 403: another site asked, or the token is another's or too old.
    """
    hour = now_ms() // _HOUR_MS if hour is None else hour
    made = token.partition(".")[0]
    recent = (
        token.isascii()
        and made.isdecimal()
        and len(made) < 10
        and 0 <= hour - int(made) <= TOKEN_HOURS
    )
    foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if foreign or not recent or not hmac.compare_digest(token, form_token(scope.user, int(made))):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, "The form is too old or not ours; load the page again."
        )

"""The pages' FastAPI app: authorise, ask, turn into a view, answer.

Airflow mounts a plugin's app without any authentication, so every route here asks who it is, all
that show something of the log ask for a scope, and nothing is mounted beside the routes. One is a
program's, which a token opens. Typing imports stay at run time: FastAPI reads them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.plugin.ingest import router as ingest_router
from airflow_secure_ml.plugin.rendering import HEADERS, page, static_response
from airflow_secure_ml.plugin.routes_alerts import router as alerts_router
from airflow_secure_ml.plugin.routes_event import router as event_router
from airflow_secure_ml.plugin.routes_events import router as events_router
from airflow_secure_ml.plugin.routes_export import router as export_router
from airflow_secure_ml.plugin.routes_integrity import router as integrity_router
from airflow_secure_ml.plugin.routes_keys import router as keys_router
from airflow_secure_ml.plugin.routes_objects import router as objects_router
from airflow_secure_ml.plugin.routes_principals import router as principals_router
from airflow_secure_ml.plugin.routes_reports import router as reports_router
from airflow_secure_ml.plugin.routes_reviews import router as reviews_router
from airflow_secure_ml.plugin.routes_run import router as run_router

log = logging.getLogger(__name__)
TITLES = {401: "Please log in", 403: "Not for you", 404: "Not found", 409: "Not now"}


@functools.cache
def shared_app() -> FastAPI:
    """The process's app; Airflow asks for it more than once."""
    return create_app()


def create_app() -> FastAPI:
    """Build the app that the plugin mounts at /secure-ml."""
    app = FastAPI(
        title="Security audit",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.middleware("http")(_add_headers)
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(SecureMLError)(_failed)
    app.get("/")(_start)
    app.get("/static/{name}")(_static)
    for router in (
        *(events_router, event_router, run_router, integrity_router, ingest_router),
        *(objects_router, keys_router, principals_router),
        *(alerts_router, export_router, reviews_router, reports_router),
    ):
        app.include_router(router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.auth_manager = get_auth_manager()
    yield


async def _add_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    try:
        response = await call_next(request)
    except Exception as error:  # noqa: BLE001 - who owns the store chooses what a page stumbles over
        response = _stumbled(request, error)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _start(user: GetUserDep) -> Response:
    return RedirectResponse("events")


def _static(name: str, user: GetUserDep) -> Response:
    return static_response(name)


async def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    heading = TITLES.get(status, "This did not work")
    return _problem(status, heading, str(getattr(error, "detail", error)))


def _stumbled(request: Request, error: Exception) -> Response:
    log.error("security audit page %s stumbled", request.url.path, exc_info=error)
    return _problem(
        500,
        "This page could not be made",
        f"It stumbled over what the log holds ({type(error).__name__}). What this package "
        "wrote does not do that: check the log by `secure-ml audit verify`.",
        still="Tasks go on recording.",
    )


async def _failed(request: Request, error: Exception) -> Response:
    log.warning("security audit page %s failed: %s", request.url.path, error)
    return _problem(
        503,
        "The audit log could not be read",
        str(error),
        still="Tasks go on recording: what they do is kept in the spool and taken in later.",
    )


def _problem(status: int, heading: str, message: str, *, still: str = "") -> Response:
    return page(
        "error",
        "Error",
        whole=False,
        status=status,
        heading=heading,
        message=message,
        still=still,
    )

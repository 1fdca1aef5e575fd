"""An Airflow plugin that asks for each right once, as the pages do; the page tests install it."""

from contextlib import asynccontextmanager

from airflow.plugins_manager import AirflowPlugin


class RightsPlugin(AirflowPlugin):
    name = "rights"

    @property
    def fastapi_apps(self):
        from airflow.api_fastapi.app import get_auth_manager
        from fastapi import Depends, FastAPI

        from airflow_secure_ml.plugin.access import Right, ScopeDep, having

        @asynccontextmanager
        async def lifespan(app: FastAPI):
            app.state.auth_manager = get_auth_manager()
            yield

        app = FastAPI(lifespan=lifespan)

        @app.get("/read")
        def read(scope: ScopeDep) -> dict[str, object]:
            return {"user": scope.user, "dags": scope.dags, "rights": sorted(scope.rights)}

        for right in Right:
            app.get(f"/{right}", dependencies=[Depends(having(right))])(lambda: {})
        return [{"app": app, "url_prefix": "/rights", "name": "Rights"}]

"""A model from a warehouse, where every task logs in as somebody new: no password is kept anywhere.

The Airflow connection `warehouse` says where the database is. Who logs in, Vault says: it makes a
role of PostgreSQL for one task, and drops it when that task ends, however it ends. Hooks and
operators are Airflow's own and know nothing of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import dag, task

from airflow_secure_ml import Credential, secure

LAKE = os.environ.get("SECURE_ML_DEMO_DATA", "/opt/airflow/lake") + "/warehouse"
LOADER = {"warehouse": "database/creds/loader"}  # Airflow's connection: where Vault makes a login
READER = {"warehouse": "database/creds/reader"}
SITES = [1, 2, 3, 4, 5, 6]
TARGET = "mdvis"
FEATURES = ["xage", "female", "income", "educdec", "num", "mhi", "disea", "physlm", "idp", "coins"]


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["health"])
def vault_credentials():
    @secure(credentials=LOADER)  # the only task whose login may write
    @task
    def load() -> int:
        import pandas as pd
        from statsmodels.datasets import randhie

        source = Path(randhie.__file__).parent / "src" / "randhie.csv"
        visits = pd.read_csv(source, usecols=["zper", "site", TARGET, *FEATURES]).dropna()
        types = {"int64": "int", "float64": "float"}
        columns = ", ".join(f"{name} {types[str(kind)]}" for name, kind in visits.dtypes.items())
        warehouse = PostgresHook("warehouse")
        warehouse.run(f"DROP TABLE IF EXISTS visits; CREATE TABLE visits ({columns})")
        rows = visits.itertuples(index=False)
        warehouse.insert_rows("visits", rows, target_fields=list(visits), commit_every=10_000)
        return len(visits)

    fresh = secure(  # an operator that exists, and one word around it
        SQLExecuteQueryOperator(
            task_id="fresh", conn_id="warehouse", sql="SELECT count(*) FROM visits"
        ),
        credentials=READER,
    )

    @secure(credentials=READER, writes={"model": f"{LAKE}/model.skops"})
    @task
    def train(model: Path) -> None:
        import skops.io
        from sklearn.linear_model import PoissonRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        people = PostgresHook("warehouse").get_df("SELECT * FROM visits WHERE mod(zper, 4) > 0")
        regressor = make_pipeline(StandardScaler(), PoissonRegressor(alpha=1e-3, max_iter=300))
        regressor.fit(people[FEATURES], people[TARGET])
        skops.io.dump(regressor, model)

    @secure(credentials=READER, reads=["model"])
    @task
    def score(model: Path, site: int) -> dict[str, float]:
        """One task a site, all at once: six logins, none of which outlives its task."""
        import skops.io
        from sklearn.metrics import d2_tweedie_score

        # A quarter of the people, whom the training has not seen.
        people = PostgresHook("warehouse").get_df(
            "SELECT * FROM visits WHERE mod(zper, 4) = 0 AND site = %s", parameters=(site,)
        )
        guess = skops.io.load(model, trusted=[]).predict(people[FEATURES])
        explained = d2_tweedie_score(people[TARGET], guess, power=1)
        return {"site": site, "deviance_explained": round(float(explained), 4)}

    @secure(credentials={"partner": "kv/data/pipelines/partner"}, reads=["model"])
    @task
    def vouch(model: Path, partner: Credential) -> str:
        """No connection of that name, so the parameter: the secret that we share with a partner.

        The partner, who has none of our keys, tells by it that the model came from us.
        """
        import hmac

        return hmac.new(partner["key"].encode(), model.read_bytes(), "sha256").hexdigest()

    trained = train()
    load() >> fresh >> trained
    score.partial(model=trained["model"]).expand(site=SITES)
    vouch(trained["model"])


vault_credentials()

"""Visits to a doctor, predicted: from raw data to a released model, sealed at every step.

The data is the RAND Health Insurance Experiment (public domain; 20,190 person-years), as the
package statsmodels ships it. Nothing here names a key file or a server: keys are names, and the
platform team's settings and rules say what they mean.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.sdk import Asset, dag, task

from airflow_secure_ml import Reads, Writes, secure
from airflow_secure_ml.operators import SignArtifactOperator

LAKE = os.environ.get("SECURE_ML_DEMO_DATA", "/opt/airflow/lake") + "/health"
VISITS_MODEL = Asset("visits-model")  # what other DAGs look for
TARGET, PERSON = "mdvis", "zper"
FEATURES = ["xage", "female", "income", "educdec", "num", "mhi", "disea", "physlm", "idp", "coins"]


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["health"])
def secure_training():
    @secure(writes={"raw": f"{LAKE}/raw.csv"})
    @task
    def ingest(raw: Path) -> int:
        from statsmodels.datasets import randhie

        source = Path(randhie.__file__).parent / "src" / "randhie.csv"
        raw.write_bytes(source.read_bytes())
        return raw.stat().st_size  # a number may travel by XCom; rows may not

    @secure(
        reads={"raw": Reads(expect="expectations/visits.json", quarantine=f"{LAKE}/bad_rows.csv")},
        writes={"table": f"{LAKE}/features.parquet"},
    )
    @task
    def features(raw: Path, table: Path) -> None:
        import pandas as pd

        people = pd.read_csv(raw, usecols=[PERSON, TARGET, *FEATURES])
        people.fillna({"educdec": people["educdec"].median()}).to_parquet(table)

    @secure(reads=["table"], writes={"model": Writes(f"{LAKE}/model.skops", key="models")})
    @task
    def train(table: Path, model: Path) -> dict[str, float]:
        import pandas as pd
        import skops.io
        from sklearn.linear_model import PoissonRegressor
        from sklearn.metrics import d2_tweedie_score
        from sklearn.model_selection import GroupShuffleSplit
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        people = pd.read_parquet(table)
        # A person's years never stand on both sides: they are too much alike.
        split = GroupShuffleSplit(n_splits=1, test_size=0.25, random_state=0)
        fit_rows, test_rows = next(split.split(people, groups=people[PERSON]))
        regressor = make_pipeline(StandardScaler(), PoissonRegressor(alpha=1e-3, max_iter=300))
        regressor.fit(people.iloc[fit_rows][FEATURES], people.iloc[fit_rows][TARGET])
        guess = regressor.predict(people.iloc[test_rows][FEATURES])
        skops.io.dump(regressor, model)  # never pickle: loading one runs its code
        explained = d2_tweedie_score(people.iloc[test_rows][TARGET], guess, power=1)
        return {"deviance_explained": round(float(explained), 4)}

    raw = ingest()["raw"]  # references flow: address, digest, signer
    trained = train(features(raw)["table"])
    SignArtifactOperator(
        task_id="release",
        artifact=trained["model"],  # exactly the bytes that were trained
        key="release",
        outlets=[VISITS_MODEL],
    )


secure_training()


@dag(schedule=[VISITS_MODEL], start_date=pendulum.datetime(2026, 1, 1), tags=["health"])
def score_visits():
    """Whoever uses a model: the released bytes that Airflow announced, or nothing."""

    @secure(reads={"model": Reads(VISITS_MODEL, signed_by="release")})
    @task
    def score(model: Path) -> float:
        import pandas as pd
        import skops.io

        regressor = skops.io.load(model, trusted=[])  # no type beyond scikit-learn's own
        somebody = pd.DataFrame([dict.fromkeys(FEATURES, 0.0) | {"xage": 40.0, "educdec": 12.0}])
        return round(float(regressor.predict(somebody)[0]), 2)

    score()


score_visits()

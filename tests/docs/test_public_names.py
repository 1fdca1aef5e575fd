"""What users import is a promise: few names, each there, and nothing else imported for it."""

from __future__ import annotations

import subprocess
import sys

import airflow_secure_ml

PUBLIC = [
    "Credential",
    "Lease",
    "Reads",
    "Reference",
    "SecureMLError",
    "Writes",
    "open_artifact",
    "secure",
]
SLOW = ("airflow", "great_expectations", "boto3", "hvac", "pandas", "cryptography")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_public_names_are_these():
    assert sorted(airflow_secure_ml.__all__) == PUBLIC


def test_every_public_name_is_there():
    for name in PUBLIC:
        assert getattr(airflow_secure_ml, name).__name__ == name


def test_secure_stays_the_function_after_its_package_was_imported():
    import airflow_secure_ml.securing.wrapping

    assert airflow_secure_ml.secure is airflow_secure_ml.securing.wrapping.secure


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(airflow_secure_ml, "encrypt_everything")


def test_importing_the_package_imports_none_of_its_modules():
    found = {name for name in loaded_after("import airflow_secure_ml") if "secure_ml" in name}

    assert found - {"__editable___airflow_secure_ml"} == {"airflow_secure_ml"}


def test_what_a_dag_file_imports_loads_nothing_slow():
    loaded = loaded_after("from airflow_secure_ml import Reads, Writes, Lease, secure")

    assert not loaded & set(SLOW)


def test_the_operators_load_no_checker_and_no_cloud():
    loaded = loaded_after("import airflow_secure_ml.operators")

    assert not loaded & {"great_expectations", "boto3", "hvac", "pandas"}

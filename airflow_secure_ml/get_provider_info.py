"""What Airflow is told about this package: its name, its commands, the options of [secure_ml].

Imports nothing: every Airflow command calls it. An option that is not read by `settings` does not
stand here, and a test holds both, and docs/settings.md, equal.
"""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata, as Airflow's provider_info.schema.json wants it."""
    return {
        "package-name": "airflow-secure-ml",
        "name": "Secure ML",
        "description": (
            "Secures machine-learning pipelines: data sealed at rest, signed artifacts, "
            "validated inputs, and an audit trail that cannot be changed unnoticed."
        ),
        "integrations": [{"integration-name": "Secure ML", "tags": ["service"]}],
        "cli": ["airflow_secure_ml.cli.get_cli_commands"],
        "config": {
            "secure_ml": {
                "description": "Keys, rules, scratch space and audit trail of airflow-secure-ml.",
                "options": _options(),
            }
        },
    }


def _options() -> dict[str, dict[str, object]]:
    return {
        "key_system": _option(
            "local://{AIRFLOW_HOME}/secure_ml/keyring.json",
            "Where keys are kept. `local:///path` is a key file; it is only ever made by "
            "`airflow secure-ml keys init`, and a missing file is an error. "
            "`vault://transit?conn_id=vault_default` is Vault's Transit engine at that mount; "
            "`&key=name` there, in key_names, is the key's name in Transit where it differs.",
            example="local:///etc/airflow/secure_ml/keyring.json",
        ),
        "data_key": _option(
            "data", "Name of the key that seals an output which names no key of its own."
        ),
        "signing_key": _option("pipeline", "Name of the key that signs every output."),
        "trusted_signers": _option(
            "pipeline",
            "Names of the keys, separated by commas, whose signature on an input is accepted "
            "where neither the task nor a rule says whose.",
            example="pipeline, release",
        ),
        # Empty, not {}: Airflow formats a default with str.format, which fails on {}.
        "key_names": _option(
            "",
            "A JSON object that says in which other key system a name lies: name to address. "
            "Empty: every name lies in key_system.",
            example='{"partner": "local:///etc/airflow/secure_ml/partner.json"}',
        ),
        "policy_file": _option(
            "",
            "Path of a TOML file with the rules for data by prefix. Empty: no rules.",
            example="/etc/airflow/secure_ml.toml",
        ),
        "vault_conn_id": _option(
            "vault_default",
            "The Airflow connection to Vault, where neither a lease nor a key system names "
            "another.",
        ),
        "xcom_key": _option(
            "", "Name of the wrap key of sealed XCom values. Empty: data_key.", example="xcom"
        ),
        "xcom_keys_dir": _option(
            "{AIRFLOW_HOME}/secure_ml/xcom_keys",
            "Directory of the wrapped keys, one a DAG, of sealed XCom values; shared by all "
            "workers. Without it the values cannot be read.",
        ),
        "xcom_read_unsealed": _option(
            "true",
            "Whether the sealing XCom back end reads values that were written before it was set. "
            "Set it to false once none is left.",
            kind="boolean",
        ),
        "scratch_dirs": _option(
            "/dev/shm",  # noqa: S108 - memory, with a private directory of random name inside
            "Directories, separated by commas, for opened data; the first with room is taken. "
            "They should be in memory (tmpfs): any other file system is warned about. "
            "Containers have 64 MiB in /dev/shm unless told otherwise.",
            example="/dev/shm, /mnt/scratch",  # noqa: S108 - as above
        ),
        "audit_dir": _option(
            "{AIRFLOW_HOME}/secure_ml/audit",
            "Directory of the audit trail: spool and store. A local file system.",
        ),
        "audit_spare_dir": _option(
            "",
            "Directory on another file system, where the spool goes on when audit_dir is full. "
            "Empty: none.",
        ),
        "audit_signer_dir": _option(
            "{AIRFLOW_HOME}/secure_ml/signer",
            "Directory of the log key and of the last signed checkpoint. Only the sequencer "
            "reads it; where it runs as another user, tasks must not be able to.",
        ),
        "audit_log_name": _option(
            "airflow",
            "First part of the log's name, as checkpoints carry it; taken once, when "
            "`airflow secure-ml keys init` makes the log. A domain that is yours is best.",
            example="example.org",
        ),
        "audit_log_keys": _option(
            "",
            "Keys that may have signed checkpoints: lines of `vkey from_size to_size`, `-` as the "
            "last size of a key in use. Empty: the public half in audit_signer_dir.",
        ),
        "audit_hide": _option(
            "",
            "Fields of events, separated by commas, whose text is kept aside and can be erased, "
            "as dotted names.",
            example="object.uri, run.task",
        ),
        "audit_unavailable": _option(
            "refuse",
            "What a task does when its acts cannot be recorded: refuse, or continue, counted.",
        ),
        "listener": _option(
            "true",
            "Whether Airflow's own callbacks are recorded as a second vantage point. "
            "DAGs that use end_from_trigger need false.",
            kind="boolean",
        ),
    }


def _option(
    default: str, description: str, *, example: str | None = None, kind: str = "string"
) -> dict[str, object]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "default": default,
        "example": example,
    }
